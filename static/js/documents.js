// The list of documents: uploads and conversions with their progress, and everything without reloading.

import { ask, load } from "./api.js";
import { convert, part, resume, show, stop } from "./convert.js";
import { announce, confirmed, stamp, toast } from "./page.js";
import { upload } from "./upload.js";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 2; // uploads, once there is a document: the first one of a new visitor makes their session
const KINDS = { markdown: "Markdown", text: "Plain text" };
const TOO_LARGE = "The file is larger than 10 MB. Please split it and upload the parts.";

const WRONG = [400, 413]; // answers that the same file would have again

const list = $("documents");

// -- uploads --------------------------------------------------------------------------------------

const files = new WeakMap(); // row -> file, until it is uploaded
const sending = new WeakMap(); // row -> AbortController
const pending = [];
let lanes = 0;

function addFiles(chosen) {
  for (const file of chosen) {
    const row = stamp("document-template");
    name(row, file.name);
    files.set(row, file);
    list.prepend(row);
    enqueue(row);
  }
  showEmpty();
}

function name(row, title) {
  part(row, "title").textContent = title;
  for (const element of row.querySelectorAll("[data-show=named]")) element.textContent = ` “${title}”`;
}

function enqueue(row) {
  if (files.get(row).size > Number($("drop").dataset.most)) {
    failed(row, TOO_LARGE, { again: false });
    return;
  }
  sending.set(row, new AbortController());
  part(row, "delete").closest("button").hidden = true;
  show(row, "uploading", "It is sent as soon as those before it are.");
  pending.push(row);
  sendNext();
}

function sendNext() {
  const most = $("total").textContent === "0" ? 1 : AT_ONCE;
  while (lanes < most && pending.length) {
    lanes += 1;
    send(pending.shift()).finally(() => {
      lanes -= 1;
      sendNext();
    });
  }
}

async function send(row) {
  const { signal } = sending.get(row);
  const onProgress = (done, total) => {
    const sentence = done < total ? `${Math.floor((100 * done) / total)}% sent` : "Reading the file";
    show(row, "uploading", sentence, done < total ? { done, total } : { total: 0 });
  };
  try {
    signal.throwIfAborted();
    const answer = await upload(files.get(row), { onProgress, signal });
    files.delete(row);
    part(row, "delete").textContent = "Delete";
    part(row, "delete").closest("button").hidden = false;
    settle(row, answer);
  } catch (error) {
    if (error.name === "AbortError") drop(row);
    else failed(row, error.message, { again: !WRONG.includes(error.status) });
  }
}

function failed(row, sentence, { again }) {
  show(row, "failed", sentence);
  part(row, "convert").closest("button").hidden = !again;
  part(row, "delete").textContent = "Dismiss";
  part(row, "delete").closest("button").hidden = false;
  announce(`“${part(row, "title").textContent}” is not uploaded. ${sentence}`);
}

/** A row becomes that of a stored document, whose conversion starts by itself. */
function settle(row, { document: stored, message }) {
  row.dataset.id = stored._id;
  name(row, stored.title);
  part(row, "title").href = `/documents/${stored._id}/`;
  part(row, "facts").textContent = facts(stored);
  count(1);
  announce(`“${stored.title}” is uploaded.`);
  if (stored.wordCount) {
    show(row, "new");
    convert(row);
  } else {
    show(row, "empty", message);
    announce(message);
  }
}

function facts({ contentType, fileSize, wordCount, uploadedAt }) {
  const date = { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" };
  const day = new Date(uploadedAt).toLocaleDateString("en-GB", date);
  return `${KINDS[contentType]} · ${size(fileSize)} · ${wordCount.toLocaleString("en")} words · ${day}`;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} byte${bytes === 1 ? "" : "s"}`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

// -- the list -------------------------------------------------------------------------------------

function count(change) {
  $("total").textContent = Number($("total").textContent) + change;
  showEmpty();
}

function showEmpty() {
  $("empty").hidden = list.children.length > 0;
}

function drop(row) {
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  showEmpty();
  (neighbour?.querySelector("a[href]") ?? $("yours")).focus();
}

async function remove(row) {
  if (files.has(row)) {
    drop(row);
    return;
  }
  const title = part(row, "title").textContent;
  if (!(await confirmed(`Delete “${title}”? It cannot be brought back.`, "Delete it"))) return;
  stop(row);
  try {
    const { message } = await ask(`/api/RAG/documents/${row.dataset.id}`, { method: "DELETE" });
    toast(message);
  } catch (error) {
    toast(error.message, "error");
    if (error.status !== 404) return; // else it was deleted in another tab
  }
  drop(row);
  count(-1);
}

function listen() {
  list.addEventListener("submit", (event) => {
    event.preventDefault();
    const row = event.target.closest(".document");
    if (event.submitter.value === "delete") remove(row);
    else if (files.has(row)) enqueue(row);
    else convert(row);
  });
  list.addEventListener("click", ({ target }) => {
    if (!target.closest("[data-do=leave]")) return;
    const row = target.closest(".document");
    if (!files.has(row)) stop(row);
    else if (pending.includes(row)) {
      pending.splice(pending.indexOf(row), 1);
      drop(row);
    } else sending.get(row).abort();
  });
  $("more")?.addEventListener("click", showMore);
}

async function showMore(event) {
  event.preventDefault();
  const link = event.currentTarget;
  try {
    const page = await load(link.href);
    const rows = [...page.querySelectorAll("#documents > li")];
    list.append(...rows);
    rows[0]?.querySelector("a").focus();
    const following = page.getElementById("more");
    if (following) link.href = following.getAttribute("href");
    else link.remove();
  } catch (error) {
    toast(error.message, "error");
  }
}

// -- drop, browse, paste --------------------------------------------------------------------------

const holdsFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");

function takeFiles() {
  const input = $("file");
  $("upload").querySelector("button").hidden = true;
  $("drop-hint").hidden = false;
  input.addEventListener("change", () => {
    addFiles(input.files);
    input.value = "";
  });
  $("upload").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    $("drop").dataset.over = "";
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) delete $("drop").dataset.over;
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    delete $("drop").dataset.over;
    addFiles(event.dataTransfer.files);
  });
  addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) addFiles(clipboardData.files);
  });
}

async function paste(event) {
  event.preventDefault();
  const form = event.target;
  const problem = $("paste-problem");
  const { title, content, contentType } = Object.fromEntries(new FormData(form));
  event.submitter.disabled = true;
  try {
    const answer = await ask("/api/RAG/upload", { method: "POST", json: { title, content, contentType } });
    problem.hidden = true;
    form.reset();
    $("pasting").open = false;
    const row = stamp("document-template");
    list.prepend(row);
    settle(row, answer);
    part(row, "title").focus();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    announce(error.message);
  } finally {
    event.submitter.disabled = false;
  }
}

addEventListener("beforeunload", (event) => {
  if (lanes || pending.length) event.preventDefault(); // the browser asks whether to give the uploads up
});

if (list) {
  takeFiles();
  listen();
  $("paste").addEventListener("submit", paste);
  resume([...list.querySelectorAll(".document")].filter((row) => row.dataset.state !== "ready"));
}
