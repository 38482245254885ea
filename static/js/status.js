// The state of the services, live: one tab of a browser asks, and tells the others. A tab in the
// background does not ask, and one that wakes up asks at once.

import { ask } from "./api.js";

const PERIOD = 4000;
const channel = new BroadcastChannel("status");
const watchers = new Set();
let latest = null;
let heardAt = -Infinity;
let timer;

/** Call `watcher` with {services, activeSessions, timestamp, online} at every change. */
export function watchStatus(watcher) {
  watchers.add(watcher);
  if (latest) watcher(latest);
}

function tell(status) {
  latest = status;
  heardAt = performance.now();
  for (const watcher of watchers) watcher(status);
}

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (performance.now() - heardAt < PERIOD / 2) return plan(PERIOD); // another tab was quicker
  await alone(async (lock) => {
    if (!lock) return; // another tab is asking, and will tell
    try {
      tell({ ...(await ask("/api/services/status", { signal: AbortSignal.timeout(8000) })), online: true });
    } catch {
      tell({ ...(latest ?? {}), online: false });
    }
    channel.postMessage(latest);
  });
  plan(PERIOD);
}

/** Not while another tab asks. Browsers know locks only on https and on this machine: elsewhere each tab asks. */
const alone = (work) =>
  navigator.locks ? navigator.locks.request("status", { ifAvailable: true }, work) : work(true);

function plan(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(look, milliseconds);
}

channel.addEventListener("message", ({ data }) => {
  tell(data);
  plan(PERIOD + 500 + Math.random() * 2000); // the tab that asked last asks next, while it is there
});
for (const [target, event] of [
  [document, "visibilitychange"],
  [window, "online"],
  [window, "pageshow"],
]) {
  target.addEventListener(event, () => {
    if (event !== "pageshow") heardAt = -Infinity;
    look();
  });
}
look();
