// Conversions of documents, each shown in its row: an element with data-id and the parts of work.html.

import { follow } from "./api.js";
import { announce, toast } from "./page.js";
import { place, showInTitle } from "./queue.js";

const ROUTE = "/api/vector-convert-llm/process-document";
const WORDS = {
  new: "Not converted",
  other: "Outdated",
  empty: "No text",
  uploading: "Uploading",
  queued: "Queued",
  converting: "Converting",
  ready: "Ready",
  failed: "Failed",
};
const AT_WORK = ["uploading", "queued", "converting"];
const UNFINISHED = "conversions";
const running = new Map();
let leaving = false;

export const part = (row, name) => row.querySelector(`[data-show=${name}]`);
const titleOf = (row) => part(row, "title").textContent;

/** Show a row's state with a sentence about it: what goes on, or what is wrong. */
export function show(row, state, sentence = "", progress = {}) {
  const atWork = AT_WORK.includes(state);
  const focused = row.contains(document.activeElement) ? document.activeElement : null;
  row.dataset.state = state;
  const chip = part(row, "state");
  chip.textContent = WORDS[state];
  chip.className = `chip ${state}`;
  part(row, "work").hidden = !atWork;
  part(row, "doing").textContent = atWork ? sentence : "";
  part(row, "problem").textContent = atWork ? "" : sentence;
  part(row, "problem").hidden = atWork || !sentence;
  drawProgress(row.querySelector("progress"), progress);
  row.querySelector("[data-do=leave]").textContent = state === "queued" ? "Leave the queue" : "Stop";
  part(row, "convert").textContent =
    state === "failed" ? "Retry" : state === "ready" || state === "other" ? "Convert again" : "Convert";
  part(row, "convert").closest("button").hidden = atWork || state === "empty";
  keepFocus(row, focused);
}

/** A button that goes while it has the focus leaves it to the one that comes. */
function keepFocus(row, focused) {
  const isSeen = (element) => element.offsetParent !== null;
  if (!focused || isSeen(focused)) return;
  const [leave, again] = [row.querySelector("[data-do=leave]"), part(row, "convert").closest("button")];
  [leave, again, part(row, "title")].find(isSeen)?.focus();
}

function drawProgress(bar, { done, total }) {
  bar.hidden = total === undefined;
  if (total) {
    bar.max = total;
    bar.value = done;
  } else bar.removeAttribute("value");
}

// The queue has one place for each person, so conversions run one after another, in all tabs together.
let last = Promise.resolve();
function inTurn(work, signal) {
  if (navigator.locks) return navigator.locks.request("conversion", { signal }, work);
  const mine = last.then(() => {
    signal.throwIfAborted();
    return work();
  });
  last = mine.catch(() => {});
  return mine;
}

/** Convert a row's document when its turn comes. Resolves to the API's answer, or to null. */
export async function convert(row) {
  const { id } = row.dataset;
  if (running.has(id)) return null;
  const before = row.dataset.state === "failed" ? (row.dataset.before ?? "new") : row.dataset.state;
  row.dataset.before = before;
  const controller = new AbortController();
  running.set(id, controller);
  remember(id, true);
  show(row, "queued", "It starts by itself when its turn comes.");
  try {
    const options = { on: eventsFor(row), signal: controller.signal };
    const done = await inTurn(() => follow(ROUTE, { document_id: id }, options), controller.signal);
    finished(row, done);
    return done;
  } catch (error) {
    refused(row, error, before);
    return null;
  } finally {
    running.delete(id);
    remember(id, false);
    showInTitle(null);
  }
}

/** Stop the conversion of a row's document, or leave the queue for it. */
export const stop = (row) => running.get(row.dataset.id)?.abort();

/** Take up again what was not finished when the page was left: the place in the queue is kept a while. */
export function resume(rows, again = convert) {
  const unfinished = remembered();
  for (const row of rows) {
    if (unfinished.includes(row.dataset.id)) again(row);
  }
}

function eventsFor(row) {
  let told = false;
  return {
    queued: (data) => {
      const busy = data.yours
        ? "You are already using the conversion service in another window or program."
        : "Someone else is using the conversion service right now.";
      const sentence = `${busy} ${place(data)} It starts by itself.`;
      show(row, "queued", sentence);
      showInTitle(data);
      if (!told) toast("The conversion service is busy. You are in line.", "busy");
      told = true;
      announce(sentence);
    },
    started: () => {
      showInTitle(null);
      show(row, "converting", "The conversion begins.", { total: 0 });
    },
    progress: ({ done, total }) => show(row, "converting", `Chunk ${done} of ${total}`, { done, total }),
  };
}

function finished(row, done) {
  show(row, "ready");
  announce(`“${titleOf(row)}” is converted.`);
  if (done.unchanged) toast(done.message);
}

function refused(row, error, before) {
  if (error.name === "AbortError") {
    show(row, before);
    return;
  }
  show(row, "failed", error.message);
  toast(error.message, error.body?.serviceUnavailable ? "busy" : "error");
  announce(`“${titleOf(row)}” is not converted. ${error.message}`);
}

const remembered = () => JSON.parse(sessionStorage.getItem(UNFINISHED) ?? "[]");

function remember(id, unfinished) {
  if (leaving) return;
  const others = remembered().filter((other) => other !== id);
  sessionStorage.setItem(UNFINISHED, JSON.stringify(unfinished ? [...others, id] : others));
}

addEventListener("pagehide", () => (leaving = true));
addEventListener("pageshow", () => (leaving = false));
