// The chat page: asking, waiting in line, streaming the answer, and everything around a conversation.

import { ask, follow, load } from "./api.js";
import { render } from "./markdown.js";
import { announce, confirmed, copy, stamp, toast } from "./page.js";
import { chosen, offer } from "./picker.js";
import { place, showInTitle } from "./queue.js";
import { sourceList } from "./sources.js";
import { askedOf, draftOf, editedOf, forgetAsked, keepAsked, keepDraft, keepEdited, newId } from "./unsent.js";

const UNTITLED = "New conversation";
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

/** What is written, as the server keeps it. */
const written = () => box.value.trim().normalize("NFC");

/** A message that was not kept is in the box again, before what was written there meanwhile. */
function giveBack(message) {
  write(written() && written() !== message ? `${message}\n\n${box.value}` : message);
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
    else {
      if (document.activeElement === link) $("scroll").focus({ preventScroll: true });
      link.parentElement.remove();
    }
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
  const exchange = newId();
  const old = replaced ? [...said.querySelectorAll(".message")].filter((element) => !precedes(element, replaced)) : [];
  for (const element of old) element.hidden = true;
  const replaces = Number(old.find(({ dataset }) => dataset.id)?.dataset.id) || null; // what was never kept has no id
  const wasEdited = replaced && edited === replaced;
  const question = addMessage("user", message);
  const answer = addMessage("assistant", "");
  question.dataset.exchange = answer.dataset.exchange = exchange;
  const prose = answer.querySelector("[data-text]");
  prose.classList.add("dots");
  let text = "";
  let started = false;
  let unheard = false; // whether some of it may be kept that never came here
  try {
    await begin();
    write(written() === message ? "" : box.value); // a retry leaves alone what is being written
    if (wasEdited) setEdited(null);
    keepAsked(conversation, { message, exchange, replaces, begun: false });
    const documents = [...chosen];
    const about = documents.length && { documentIds: documents };
    const body = { message, sessionId: conversation, exchangeId: exchange, replaces, ...about };
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
        if (!text.trim() && data.text.trim()) keepAsked(conversation, { message, exchange, replaces, begun: true });
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
    if (!text.trim()) text = ""; // nothing of it is kept
    if (replaces && !text) bringBack(error);
    else explain(error, answer, text, message, started);
    const inLine = answer.toasted && !started;
    unheard = conversation && !text && !inLine && error.status === undefined;
  } finally {
    await settle();
  }
  if (unheard) await findKept(exchange, message);

  /** There is no new answer: the old one stays. */
  function bringBack(error) {
    for (const element of [question, answer]) element.remove();
    for (const element of old.splice(0)) element.hidden = false;
    if (message !== replaced.text) giveBack(message);
    if (wasEdited) setEdited(replaced);
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
    if (activeElement === body || !(box.value || isElsewhere)) box.focus({ preventScroll: true });
  }
}

/** Of an answer that broke off before its first word came here, the server may have kept some: look for it. */
async function findKept(exchange, message) {
  if (!(await becomesKept(exchange, 10, 700)) || asking) return;
  if (written() === message) write("");
  location.reload();
}

/** Whether the server keeps the exchange by one of so many looks; to ask anew ends the looking. */
async function becomesKept(exchange, looks, between) {
  for (let look = 0; look < looks && !asking; look += 1) {
    const kept = await ask(`/api/conversations/${conversation}`).catch(() => null);
    if (kept?.messages.some(({ exchangeId }) => exchangeId === exchange)) return true;
    await pause(between);
  }
  return false;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A page that is left takes its requests along, and never comes here; one whose link led nowhere does. */
async function stayed() {
  await pause(3000);
  leaving = false;
}

const precedes = (element, other) => Boolean(element.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);

const elementOf = (id) => id && said.querySelector(`[data-id="${id}"]`);

const lastId = () => Math.max(0, ...[...said.querySelectorAll("[data-id]")].map(({ dataset }) => Number(dataset.id)));

/** An answer that had begun when its page was left: the server keeps what was said of it, in a moment. */
async function awaitKept(asked) {
  const shown = [addMessage("user", asked.message), addMessage("assistant", "")];
  shown[1].querySelector("[data-text]").classList.add("dots");
  said.inert = true; // nothing is said meanwhile
  if (await becomesKept(asked.exchange, 30, 300)) return location.reload();
  said.inert = false;
  for (const element of shown) element.remove();
  toast("Your last question was not kept. It is in the box again.");
  giveBackAsked(asked);
}

function giveBackAsked({ message, replaces }) {
  forgetAsked(conversation);
  giveBack(message);
  if (elementOf(replaces)) setEdited(elementOf(replaces));
}

/** What was asked when the page was left: it is there, or is asked again, or is being kept. */
async function takeUp() {
  const asked = conversation && askedOf(conversation);
  if (asked) await takeUpThis(asked);
  if (!asking) box.focus({ preventScroll: true });
}

async function takeUpThis(asked) {
  const isThere = said.querySelector(`[data-exchange="${asked.exchange}"]`);
  const replaced = elementOf(asked.replaces);
  if (isThere) forgetAsked(conversation);
  else if (asked.late || (asked.replaces && !replaced)) giveBackAsked(asked);
  else if (!asked.begun) await send(asked.message, replaced);
  else if (asked.ours) await awaitKept(asked);
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

/** The server's ids of what was said, so that it can be replaced; and the title that it chose. Returns the newest id. */
async function synchronise() {
  const kept = await ask(`/api/conversations/${conversation}`);
  if (kept.title || draftOf(conversation)) nameIt(kept.title || UNTITLED);
  for (const { id, role, exchangeId } of kept.messages) {
    const element = exchangeId && said.querySelector(`.${role}[data-exchange="${exchangeId}"]`);
    if (element) element.dataset.id = id;
  }
  return kept.messages.at(-1)?.id ?? 0;
}

// -- saying it again ------------------------------------------------------------------------------

/** Whether a question may be replaced although more was said after its answer, here or in another tab. */
async function mayReplace(question, newest) {
  let next = question.nextElementSibling;
  while (next && !next.classList.contains("user")) next = next.nextElementSibling;
  const asks = "What was said after it is replaced, too, and cannot be brought back. Go on?";
  return (!next && newest <= lastId()) || confirmed(asks, "Replace it");
}

/** Ask the message in the place of the question and of all that was said after it. */
async function replace(question, message) {
  if (said.inert || !isFree()) return;
  const wasEdited = edited === question;
  let newest = 0;
  said.inert = $("send").disabled = true;
  try {
    if (conversation) newest = await settled(question);
  } catch (error) {
    return toast(error.message, "error");
  } finally {
    said.inert = $("send").disabled = false;
  }
  if (!(await mayReplace(question, newest)) || (wasEdited && edited !== question)) return;
  await send(message, question);
}

/** The newest id, when the question has its own: what was stopped is being kept for a moment. */
async function settled(question) {
  let newest = await synchronise();
  for (let look = 0; look < 10 && !question.dataset.id && question.nextElementSibling.text.trim(); look += 1) {
    await pause(200);
    newest = await synchronise();
  }
  return newest;
}

function isFree() {
  if (asking) toast("Please wait for the answer, or stop it first.");
  return !asking;
}

async function retry(element) {
  let question = element.previousElementSibling;
  while (question && !question.classList.contains("user")) question = question.previousElementSibling;
  if (question) await replace(question, question.text);
}

async function edit(element) {
  if (!isFree()) return;
  if (edited !== element) {
    const isOther = written() && written() !== element.text;
    if (isOther && !(await confirmed("Your unsent message would be replaced. Go on?", "Replace it"))) return;
    write(element.text);
    setEdited(element);
  }
  box.focus({ preventScroll: true });
}

/** What is in the box is to take the place of this message; of none, what is in the box is new. */
function setEdited(element) {
  edited?.classList.remove("edited");
  edited = element;
  edited?.classList.add("edited");
  keepEdited(conversation, edited?.dataset.id);
  $("editing").hidden = !edited;
  if (edited) {
    announce($("editing-note").textContent);
    box.setAttribute("aria-describedby", "editing-note");
  } else box.removeAttribute("aria-describedby");
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
    keepEdited(conversation, null);
    forgetAsked(conversation);
    location.assign("/");
  } catch (error) {
    toast(error.message, "error");
  }
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = written();
  if (!message) return;
  if (edited) replace(edited, message);
  else send(message);
});
$("stop-editing").addEventListener("click", stopEditing);
box.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return; // the key is for the input method
  if (event.key === "Escape" && edited) stopEditing();
  if (event.key !== "Enter" || event.shiftKey) return;
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
if (box.value && elementOf(editedOf(conversation))) setEdited(elementOf(editedOf(conversation)));
for (const item of document.querySelectorAll("#talks [data-untitled]:not([data-current])")) {
  if (!draftOf(item.dataset.id) && !askedOf(item.dataset.id)) item.remove(); // nothing was said in it, and nothing waits
}
showEnd();
takeUp();
