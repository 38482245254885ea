// The status page, kept right without reloading.

import { announce } from "./page.js";
import { about } from "./queue.js";
import { watchStatus } from "./status.js";

const connection = document.querySelector("#connection");
const cards = [...document.querySelectorAll("[data-service]")];
let latest = null;
let receivedAt = 0;

const show = (card, name, text) => {
  const element = card.querySelector(`[data-show=${name}]`);
  if (element.textContent !== text) element.textContent = text;
};

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function draw() {
  if (!latest?.services) return;
  for (const card of cards) {
    const service = Object.values(latest.services).find(({ id }) => id === card.dataset.service);
    const session = latest.activeSessions.find(({ serviceId }) => serviceId === service.id);
    const state = !service.enabled ? "off" : service.available ? "free" : "busy";
    const word = { off: "Switched off", free: "Free", busy: "Busy" }[state];
    if (card.dataset.state !== state) announce(`${service.name}: ${word}`);
    card.dataset.state = state;
    show(card, "state", word);
    show(card, "since", session ? span(session.duration + performance.now() - receivedAt) : "–");
    show(card, "queue", service.queue.length === 0 ? "nobody" : `${service.queue.length}`);
    show(card, "wait", state === "free" ? "none" : about(service.queue.estimatedWaitSeconds));
    show(card, "model", service.health.error ?? service.health.model ?? "loading");
    show(card, "message", service.message ?? "");
  }
}

watchStatus((status) => {
  latest = status;
  receivedAt = performance.now();
  connection.textContent = status.online
    ? "Live."
    : "The connection is lost: what you see may be out of date. Trying again.";
  connection.classList.toggle("notice", !status.online);
  connection.classList.toggle("error", !status.online);
  draw();
});
setInterval(draw, 1000);
