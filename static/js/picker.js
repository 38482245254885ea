// The documents that a conversation is about, in a list to tick them.

import { ask } from "./api.js";
import { toast } from "./page.js";

const MOST = 10;
const $ = (id) => document.getElementById(id);
const picker = $("picker");

/** The ids of those that are ticked. */
export const chosen = new Set();
let changed = async () => {};

/** Show the list with these ticked; `whenChanged` is called after each change. */
export async function offer(ticked, whenChanged) {
  for (const id of ticked) chosen.add(id);
  changed = whenChanged;
  picker.hidden = false;
  await list();
}

async function list() {
  const { documents, nextCursor } = await ask("/api/RAG/documents?limit=100");
  const listed = new Map();
  for (const { _id, title, hasEmbedding } of documents) {
    listed.set(_id, hasEmbedding ? title : `${title} (not converted yet)`);
  }
  for (const id of chosen) {
    if (listed.has(id)) continue;
    if (nextCursor) listed.set(id, "A document that is older than these, or deleted");
    else chosen.delete(id);
  }
  const rows = $("documents");
  rows.replaceChildren();
  for (const [id, title] of listed) {
    const label = document.createElement("label");
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.checked = chosen.has(id);
    tick.addEventListener("change", () => choose(id, tick));
    const name = document.createElement("span");
    name.textContent = title;
    label.append(tick, name);
    rows.append(label);
  }
  if (!listed.size) {
    const link = document.createElement("a");
    link.href = "/documents/";
    link.textContent = "Upload a document first";
    rows.append(link);
  }
  nameChosen();
}

function nameChosen() {
  $("picked").textContent = chosen.size ? `${chosen.size} document${chosen.size > 1 ? "s" : ""}` : "Documents";
}

async function choose(id, tick) {
  if (tick.checked && chosen.size >= MOST) {
    tick.checked = false;
    toast(`Please choose at most ${MOST} documents.`);
    return;
  }
  if (tick.checked) chosen.add(id);
  else chosen.delete(id);
  nameChosen();
  await changed().catch((error) => toast(error.message, "error"));
}

addEventListener("pointerdown", ({ target }) => {
  if (!picker.contains(target)) picker.open = false;
});
picker.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  picker.open = false;
  picker.querySelector("summary").focus();
});
