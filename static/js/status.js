// The state of the services, live: one tab of a browser asks, and tells the others. A tab in the
// background does not ask, and one that wakes up asks at once.

import { ask } from "./api.js";

const PERIOD = 4000;
const channel = new BroadcastChannel("status");
const watchers = new Set();
let latest = null;
let timer;

/** Call `watcher` with {services, activeSessions, timestamp, online} at every change. */
export function watchStatus(watcher) {
  watchers.add(watcher);
  if (latest) watcher(latest);
}

function tell(status) {
  latest = status;
  for (const watcher of watchers) watcher(status);
}

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  await navigator.locks.request("status", { ifAvailable: true }, async (lock) => {
    if (!lock) return; // another tab is asking, and will tell
    try {
      tell({ ...(await ask("/api/services/status", { signal: AbortSignal.timeout(8000) })), online: true });
    } catch {
      tell({ ...(latest ?? {}), online: false });
    }
    channel.postMessage(latest);
  });
  timer = setTimeout(look, PERIOD);
}

channel.addEventListener("message", ({ data }) => {
  tell(data);
  clearTimeout(timer);
  timer = setTimeout(look, PERIOD + Math.random() * 1000);
});
document.addEventListener("visibilitychange", look);
addEventListener("online", look);
addEventListener("pageshow", look);
look();
