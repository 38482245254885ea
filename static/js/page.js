// What every page has: the toast, the spoken news, the theme, and the badge of the services.

import { watchStatus } from "./status.js";
import { forgetEverything } from "./unsent.js";

const toasts = document.querySelector("#toasts");
const news = document.querySelector("#news");

/** A short message in the corner, which goes by itself and can be closed. */
export function toast(message, kind = "info") {
  const element = document.createElement("div");
  element.className = `toast ${kind}`;
  const text = document.createElement("p");
  text.textContent = message;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet";
  close.setAttribute("aria-label", "Close this message");
  close.textContent = "×";
  close.addEventListener("click", () => element.remove());
  element.append(text, close);
  toasts.append(element);
  setTimeout(() => element.remove(), 12_000);
}

/** Say something to those who hear the page. */
export function announce(message) {
  news.textContent = message;
}

/** Put text on the clipboard, also on a site without https, and say so; resolves to whether it is there. */
export async function copy(text) {
  const done = navigator.clipboard
    ? await navigator.clipboard.writeText(text).then(
        () => true,
        () => false,
      )
    : copySelected(text);
  if (done) announce("Copied.");
  else toast("Your browser does not let this page copy. Please select the text and copy it yourself.", "error");
  return done;
}

/** What browsers have for pages that they give no `navigator.clipboard`. */
function copySelected(text) {
  const focused = document.activeElement;
  const box = document.createElement("textarea");
  box.className = "unseen";
  box.value = text;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

/** An element from a `<template id>` of the page. */
export function stamp(id) {
  return document.querySelector(`template#${id}`).content.cloneNode(true).firstElementChild;
}

/** Ask before something is lost; resolves to whether to go on. */
export function confirmed(question, action) {
  const dialog = document.querySelector("#confirm");
  dialog.querySelector("p").textContent = question;
  dialog.querySelector("[value=yes]").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

const root = document.documentElement;
const themeButton = document.querySelector("#theme");
const isDark = () =>
  root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

function nameTheme() {
  themeButton.setAttribute("aria-label", isDark() ? "Switch to the light theme" : "Switch to the dark theme");
}

themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  nameTheme();
});
themeButton.hidden = false;
nameTheme();

document.querySelector("form.account")?.addEventListener("submit", forgetEverything);

const badge = document.querySelector("#badge");
watchStatus(({ services, online }) => {
  const busy = Object.values(services ?? {}).filter((service) => !service.available);
  badge.dataset.state = !online ? "offline" : busy.length ? "busy" : "free";
  badge.querySelector("span").textContent = !online
    ? "Connection lost"
    : busy.length
      ? `${busy.map((service) => service.name.replace(" Service", "")).join(" and ")} busy`
      : "All services free";
});
