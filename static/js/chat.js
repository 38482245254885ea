// The chat page: asking, waiting in line, streaming the answer, and everything around a conversation.

import { ask, follow, load } from "./api.js";
import { render } from "./markdown.js";
import { announce, confirmed, copy, stamp, toast } from "./page.js";
import { chosen, offer } from "./picker.js";
import { place, showInTitle } from "./queue.js";
import { sourceList } from "./sources.js";
import { askedOf, draftOf, forgetAsked, keepAsked, keepDraft } from "./unsent.js";

const $ = (id) => document.getElementById(id);
const { conversation: opened, documents: ticked } = JSON.parse($("state").textContent);

let conversation = opened;
let asking = null; // the AbortController of the question on its way
let edited = null; // the question in whose place the one in the box will be asked
let leaving = false; // the page is going away: its requests break off, and nobody gave anything up
const box = $("message");
const said = $("said");

// -- the draft, which nothing loses ---------------------------------------------------------------

function write(text) {
  box.value = text;
  keepDraft(conversation, text);
}

/** A message that was not kept is in the box again, before what was written there meanwhile. */
function giveBack(message) {
  const written = box.value.trim();
  write(written && written !== message ? `${message}\n\n${box.value}` : message);
}

// -- messages -------------------------------------------------------------------------------------

/** What scrolls: the thread, or on a narrow screen the whole page. */
function scroller() {
  const thread = $("scroll");
  return getComputedStyle(thread).overflowY === "visible" ? document.scrollingElement : thread;
}

function atEnd() {
  const { scrollHeight, scrollTop, clientHeight } = scroller();
  return scrollHeight - scrollTop - clientHeight < 120;
}

function showEnd() {
  scroller().scrollTop = scroller().scrollHeight;
}

/** Change what is said; who was at its end stays there. */
function following(change) {
  const follows = atEnd();
  change();
  if (follows) showEnd();
}

function addMessage(role, text) {
  $("welcome").hidden = true;
  const element = stamp("message-template");
  element.classList.add(role);
  element.setAttribute("aria-label", role === "user" ? "You" : "Assistant");
  setText(element, role, text);
  said.append(element);
  showEnd();
  return element;
}

function setText(element, role, text) {
  const prose = element.querySelector("[data-text]");
  element.text = text;
  if (role === "user") {
    prose.classList.add("plain");
    prose.textContent = text;
  } else {
    prose.classList.remove("plain");
    render(prose, text);
  }
}

function addTools(element, role) {
  element.querySelector(".tools")?.remove();
  const tools = document.createElement("div");
  tools.className = "tools";
  const add = (name, action) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = name;
    button.addEventListener("click", action);
    tools.append(button);
  };
  if (role === "user") add("Edit", () => edit(element));
  else {
    add("Copy", () => copy(element.text));
    add("Retry", () => retry(element));
  }
  element.append(tools);
}

function markIncomplete(element, why) {
  element.querySelector(".incomplete")?.remove();
  const note = document.createElement("p");
  note.className = "incomplete";
  note.textContent = why;
  element.append(note);
}

/** Bring what the server rendered to life. */
function enliven(elements) {
  for (const element of elements) {
    const role = element.classList.contains("user") ? "user" : "assistant";
    setText(element, role, element.querySelector("[data-text]").textContent);
    const sources = element.querySelector("script[type='application/json']");
    if (sources) element.querySelector("[data-text]").after(sourceList(JSON.parse(sources.textContent)));
    addTools(element, role);
  }
}

/** What was said before what is shown, in its place above; what is being read stays where it is. */
async function showEarlier(event) {
  event.preventDefault();
  const link = event.currentTarget;
  try {
    const page = await load(link.href);
    const elements = [...page.querySelectorAll("#said .message")];
    enliven(elements);
    const height = scroller().scrollHeight;
    link.parentElement.after(...elements);
    scroller().scrollTop += scroller().scrollHeight - height;
    const further = page.getElementById("earlier");
    if (further) link.href = further.getAttribute("href");
    else link.parentElement.remove();
  } catch (error) {
    toast(error.message, "error");
  }
}

enliven(said.querySelectorAll(".message"));
$("earlier")?.addEventListener("click", showEarlier);

// -- asking ---------------------------------------------------------------------------------------

async function begin() {
  if (conversation) return;
  const made = await ask("/api/conversations", { method: "POST", json: {} });
  if (draftOf(null) === box.value) keepDraft(null, ""); // else it is another new tab's
  conversation = made.sessionId;
  history.replaceState(null, "", `/c/${conversation}/`);
  if (chosen.size) await saveChosen();
}

const saveChosen = () =>
  ask(`/api/conversations/${conversation}`, { method: "PATCH", json: { documentIds: [...chosen] } });

function nameIt(title) {
  document.title = `${title} · Leasehold`;
  $("title").textContent = title;
  $("heading").hidden = false;
  for (const kind of ["md", "json"]) $(`export-${kind}`).href = `/c/${conversation}/export.${kind}`;
  let item = document.querySelector(`#talks [data-id="${conversation}"]`);
  if (!item) {
    document.querySelector("#talks .empty")?.remove();
    item = document.createElement("li");
    item.dataset.id = conversation;
    item.dataset.current = "";
    const link = document.createElement("a");
    link.href = `/c/${conversation}/`;
    link.setAttribute("aria-current", "true");
    item.append(link);
    $("talks").prepend(item);
  }
  item.querySelector("a").textContent = title;
}

function busy(isBusy) {
  $("send").hidden = isBusy;
  $("stop").hidden = !isBusy;
}

/** The place in the line, where the answer will be. */
function showPlace(answer, data) {
  showInTitle(data);
  let waiting = answer.querySelector(".waiting");
  if (!data) return waiting?.remove();
  if (!waiting) {
    waiting = document.createElement("div");
    waiting.className = "waiting";
    const leave = document.createElement("button");
    leave.type = "button";
    leave.textContent = "Leave the queue";
    leave.addEventListener("click", () => asking?.abort());
    waiting.append(document.createElement("p"), leave);
    answer.append(waiting);
  }
  const whose = data.yours
    ? "You are already using the chat service in another tab."
    : "Someone else is using the chat service right now.";
  const sentence = `${whose} ${place(data)} It starts by itself.`;
  waiting.querySelector("p").textContent = sentence;
  announce(sentence);
}

/** Ask; what is said takes the place of the message `replaced` and all after it, once there is an answer. */
async function send(message, replaced = null) {
  if (asking || said.inert) return;
  leaving = false; // who asks has stayed
  asking = new AbortController();
  busy(true);
  const before = lastId();
  const old = replaced ? [...said.querySelectorAll(".message")].filter((element) => !precedes(element, replaced)) : [];
  for (const element of old) element.hidden = true;
  const replaces = Number(replaced?.dataset.id) || null; // one that was never kept has no id
  const question = addMessage("user", message);
  const answer = addMessage("assistant", "");
  const prose = answer.querySelector("[data-text]");
  prose.classList.add("dots");
  let text = "";
  let started = false;
  try {
    await begin();
    write(box.value.trim() === message ? "" : box.value); // a retry leaves alone what is being written
    if (replaced && edited === replaced) setEdited(null);
    keepAsked(conversation, { message, before, replaces, begun: false });
    const documents = [...chosen];
    const about = documents.length && { documentIds: documents };
    const body = { message, sessionId: conversation, replaces, ...about };
    const path = documents.length ? "/api/RAG/chat" : "/api/lightweight-llm/chat";
    const on = {
      queued: (data) => {
        showPlace(answer, data);
        if (!answer.toasted) toast("The chat service is busy. You are in line.", "busy");
        answer.toasted = true;
      },
      started: () => {
        started = true;
        showPlace(answer, null);
      },
      token: (data) => {
        if (!text) keepAsked(conversation, { message, before, replaces, begun: true });
        text += data.text;
        prose.classList.remove("dots");
        draw(answer, text);
      },
    };
    const done = await follow(path, body, { on, signal: asking.signal });
    following(() => {
      setText(answer, "assistant", done.response);
      if (done.sources?.length) prose.after(sourceList(done.sources));
    });
    if (done.notice) toast(done.notice);
    announce(`The answer is finished: ${prose.textContent}`);
  } catch (error) {
    if (leaving) await stayed();
    if (replaces && !text) bringBack(error);
    else explain(error, answer, text, message, started);
  } finally {
    await settle();
  }

  /** There is no new answer: the old one stays. */
  function bringBack(error) {
    for (const element of [question, answer]) element.remove();
    for (const element of old.splice(0)) element.hidden = false;
    if (message !== replaced.text) {
      giveBack(message);
      setEdited(replaced);
    }
    if (error.name === "AbortError") toast("The answer that was there stays.");
    else toast(error.message, error.body?.serviceUnavailable ? "busy" : "error");
  }

  async function settle() {
    prose.classList.remove("dots");
    if (askedOf(conversation)?.ours) forgetAsked(conversation); // another tab may have taken it over
    showPlace(answer, null);
    asking = null;
    busy(false);
    for (const element of old) element.remove();
    if (edited && !said.contains(edited)) setEdited(null);
    following(() => {
      addTools(question, "user");
      addTools(answer, "assistant");
    });
    if (conversation) await synchronise().catch(() => {});
    const { activeElement, body } = document;
    const isElsewhere = activeElement !== body && !$("composer").contains(activeElement);
    if (!box.value && !isElsewhere) box.focus({ preventScroll: true });
  }
}

/** A page that is left takes its requests along, and never comes here; one whose link led nowhere does. */
async function stayed() {
  await new Promise((resolve) => setTimeout(resolve, 3000));
  leaving = false;
}

const precedes = (element, other) => Boolean(element.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);

const lastId = () => Math.max(0, ...[...said.querySelectorAll("[data-id]")].map(({ dataset }) => Number(dataset.id)));

/** An answer that had begun when its page was left: the server keeps what was said of it, in a moment. */
async function awaitKept({ message, before }) {
  const isIt = ({ id, role, content }) => id > before && role === "user" && content === message;
  const shown = [addMessage("user", message), addMessage("assistant", "")];
  shown[1].querySelector("[data-text]").classList.add("dots");
  said.inert = true; // nothing is said meanwhile
  for (let look = 0; look < 30; look += 1) {
    const { messages } = await ask(`/api/conversations/${conversation}`);
    if (messages.some(isIt)) return location.reload();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  said.inert = false;
  for (const element of shown) element.remove();
  forgetAsked(conversation);
  toast("Your last question was not kept. It is in the box again.");
  giveBack(message);
}

/** What was asked when the page was left: it is there, or is asked again, or is being kept. */
async function takeUp() {
  const asked = conversation && askedOf(conversation);
  if (!asked || isThere(asked) || asked.late) {
    if (asked) forgetAsked(conversation);
    if (asked && !isThere(asked)) giveBack(asked.message);
  } else if (!asked.begun) {
    await send(asked.message, asked.replaces && said.querySelector(`[data-id="${asked.replaces}"]`));
  } else if (asked.ours) {
    await awaitKept(asked).catch((error) => toast(error.message, "error"));
  }
  if (!asking) box.focus({ preventScroll: true });
}

function isThere({ message, before }) {
  const questions = [...said.querySelectorAll(".message.user")];
  return questions.some(({ dataset, text }) => Number(dataset.id) > before && text === message);
}

let drawing = null;

/** Markdown of a growing answer, drawn at most once a frame. */
function draw(answer, text) {
  answer.pending = text;
  drawing ??= requestAnimationFrame(() => {
    drawing = null;
    following(() => setText(answer, "assistant", answer.pending));
  });
}

function explain(error, answer, text, message, started) {
  if (drawing) cancelAnimationFrame(drawing);
  drawing = null;
  setText(answer, "assistant", text);
  if (error.name === "AbortError") {
    markIncomplete(answer, text || started ? "You stopped this answer." : "You left the queue. Your message is below.");
    if (!text) giveBack(message);
    return;
  }
  const sentence = error.message || "Something went wrong. Please try again.";
  markIncomplete(answer, sentence);
  toast(sentence, error.body?.serviceUnavailable ? "busy" : "error");
  announce(sentence);
  if (!text) giveBack(message);
}

/** The server's ids of what was said, so that it can be edited; and the title that it chose. */
async function synchronise() {
  const last = said.lastElementChild;
  const kept = await ask(`/api/conversations/${conversation}`);
  if (said.lastElementChild !== last) return; // more was asked meanwhile, and its end comes here again
  if (kept.title) nameIt(kept.title); // else nothing was said in it yet
  const known = new Set([...said.querySelectorAll("[data-id]")].map(({ dataset }) => dataset.id));
  const messages = kept.messages.filter(({ id }) => !known.has(String(id)));
  for (const question of [...said.querySelectorAll(".message.user:not([data-id])")].reverse()) {
    const answer = question.nextElementSibling;
    const begun = answer.text.trim();
    if (!begun) continue; // nothing of it was kept
    const at = messages.findLastIndex(
      ({ role, content }, n) =>
        role === "user" && content === question.text && messages[n + 1]?.content.startsWith(begun),
    );
    if (at < 0) continue; // it is still being kept
    question.dataset.id = messages[at].id;
    answer.dataset.id = messages[at + 1].id;
    messages.length = at;
  }
}

// -- saying it again ------------------------------------------------------------------------------

/** Whether a question may be replaced although more was said after its answer. */
async function mayReplace(question) {
  let next = question.nextElementSibling;
  while (next && !next.classList.contains("user")) next = next.nextElementSibling;
  const asks = "What was said after it is replaced, too, and cannot be brought back. Go on?";
  return !next || confirmed(asks, "Replace it");
}

/** Ask the message in the place of the question and of all that was said after it. */
async function replace(question, message) {
  if (asking || said.inert || !(await mayReplace(question))) return;
  said.inert = true;
  try {
    if (!question.dataset.id && conversation) await synchronise(); // its id may still be on its way here
  } catch (error) {
    return toast(error.message, "error");
  } finally {
    said.inert = false;
  }
  await send(message, question);
}

async function retry(element) {
  let question = element.previousElementSibling;
  while (question && !question.classList.contains("user")) question = question.previousElementSibling;
  if (question) await replace(question, question.text);
}

async function edit(element) {
  if (asking) return;
  if (box.value && !(await confirmed("Your unsent message would be replaced. Go on?", "Replace it"))) return;
  write(element.text);
  setEdited(element);
  box.focus({ preventScroll: true });
}

/** What is in the box is to take the place of this message; of none, what is in the box is new. */
function setEdited(element) {
  edited?.classList.remove("edited");
  edited = element;
  edited?.classList.add("edited");
  $("editing").hidden = !edited;
  if (edited) announce($("editing").querySelector("span").textContent);
}

function stopEditing() {
  write("");
  setEdited(null);
  box.focus({ preventScroll: true });
}

// -- the conversation itself ------------------------------------------------------------------------

$("rename").addEventListener("click", () => {
  $("new-title").value = $("title").textContent;
  const dialog = $("naming");
  dialog.returnValue = "";
  dialog.showModal();
});
$("keep-title").addEventListener("click", () => $("naming").close());
$("naming").addEventListener("close", async () => {
  const title = $("new-title").value.trim();
  if ($("naming").returnValue !== "yes" || !title) return;
  try {
    await ask(`/api/conversations/${conversation}`, { method: "PATCH", json: { title } });
    nameIt(title);
  } catch (error) {
    toast(error.message, "error");
  }
});
$("delete").addEventListener("click", async () => {
  if (!(await confirmed("Delete this conversation and everything said in it?", "Delete it"))) return;
  try {
    await ask(`/api/conversations/${conversation}`, { method: "DELETE" });
    keepDraft(conversation, "");
    location.assign("/");
  } catch (error) {
    toast(error.message, "error");
  }
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = box.value.trim().normalize("NFC"); // as the server keeps it
  if (!message) return;
  if (edited) replace(edited, message);
  else send(message);
});
$("stop-editing").addEventListener("click", stopEditing);
box.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && edited) stopEditing();
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
box.addEventListener("input", () => keepDraft(conversation, box.value));
$("stop").addEventListener("click", ({ detail }) => {
  if (detail < 2) asking?.abort(); // the second click of two was meant for Send, which stood here
});
addEventListener("beforeunload", () => (leaving = true));
addEventListener("pagehide", () => (leaving = true));
addEventListener("pageshow", () => (leaving = false));
for (const id of ["rename", "delete", "hint"]) $(id).hidden = false;

const linked = new URLSearchParams(location.search).getAll("document");
offer([...ticked, ...linked], async () => conversation && saveChosen()).catch((error) => toast(error.message, "error"));
box.value ||= draftOf(conversation);
showEnd();
takeUp();
