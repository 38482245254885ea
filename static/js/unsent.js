// What somebody wrote and the server does not have yet: it stays in this browser until it does.

const DRAFT = "draft:";
const ASKED = "asked:";
const EDITED = "edited:";
const COME_BACK_WITHIN = 600_000; // ms: a question that is asked by itself much later would surprise

const tab = () => (sessionStorage.tab ??= Math.random().toString(36).slice(2)); // of a reloaded page it is the same

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The browser has no room, or keeps nothing in this window; the text is on the page all the same.
  }
}

export const draftOf = (conversation) => localStorage.getItem(DRAFT + (conversation ?? "new")) ?? "";

export function keepDraft(conversation, text) {
  const key = DRAFT + (conversation ?? "new");
  if (text) keep(key, text);
  else localStorage.removeItem(key);
}

/** The id of the message in whose place the draft is to be asked, null for none. */
export const editedOf = (conversation) => Number(localStorage.getItem(EDITED + conversation)) || null;

export function keepEdited(conversation, id) {
  if (id) keep(EDITED + conversation, id);
  else localStorage.removeItem(EDITED + conversation);
}

/** A UUID, also on a site without https. */
export function newId() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  const digits = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * The question on its way: its `message`, whether its answer has `begun`, its `exchange` (an id), and what it
 * `replaces`. Null if there is none; `late` if it was left a long time ago, `ours` if in this tab.
 */
export function askedOf(conversation) {
  const kept = JSON.parse(localStorage.getItem(ASKED + conversation));
  return kept && { ...kept, late: Date.now() - kept.at > COME_BACK_WITHIN, ours: kept.tab === tab() };
}

export function keepAsked(conversation, question) {
  keep(ASKED + conversation, JSON.stringify({ ...question, tab: tab(), at: Date.now() }));
}

export const forgetAsked = (conversation) => localStorage.removeItem(ASKED + conversation);

/** Whoever comes next to this browser is somebody else. */
export function forgetEverything() {
  for (const key of Object.keys(localStorage)) {
    if ([DRAFT, ASKED, EDITED].some((kind) => key.startsWith(kind))) localStorage.removeItem(key);
  }
}
