// What somebody wrote and the server does not have yet: it stays in this browser until it does.

const DRAFT = "draft:";
const ASKED = "asked:";
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

/**
 * The question on its way: its `message`, whether its answer has `begun`, the id of the last message `before` it, and
 * what it `replaces`. Null if there is none; `late` if it was left a long time ago, `ours` if in this tab.
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
    if (key.startsWith(DRAFT) || key.startsWith(ASKED)) localStorage.removeItem(key);
  }
}
