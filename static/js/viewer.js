// One document: the chosen passage in its text, its conversion, its end.

import { convert, part, resume, stop } from "./convert.js";
import { confirmed } from "./page.js";

const row = document.getElementById("document");
const segments = [...document.querySelectorAll(".segment")];
const links = [...document.querySelectorAll(".chunks a")];

/** The passage that the address names: all of it, which may be several segments. */
function showChosen() {
  const chunk = location.hash.match(/^#chunk-(\d{1,9})$/)?.[1];
  const link = links.find(({ hash }) => hash === `#chunk-${chunk}`);
  for (const other of links) {
    if (other === link) other.setAttribute("aria-current", "true");
    else other.removeAttribute("aria-current");
  }
  if (link) {
    const list = link.closest(".chunks");
    list.scrollTop += link.getBoundingClientRect().top - list.getBoundingClientRect().top;
  }
  const [start, end] = link ? [Number(link.dataset.start), Number(link.dataset.end)] : [0, 0];
  for (const segment of segments) {
    const inside = Number(segment.dataset.start) < end && Number(segment.dataset.end) > start;
    segment.classList.toggle("current", inside);
  }
  if (chunk !== undefined && !link) findPart(Number(chunk));
}

/** The passage is not in this part of the text: ask for the part that it is in. */
function findPart(chunk) {
  const asked = new URLSearchParams(location.search).get("chunk");
  if (chunk < Number(row.dataset.chunks) && asked !== String(chunk)) {
    location.replace(`?chunk=${chunk}#chunk-${chunk}`);
  }
}

async function convertIt() {
  const done = await convert(row);
  if (!done) return;
  part(row, "model").textContent = done.model;
  if (done.total_chunks !== Number(row.dataset.chunks)) location.reload();
}

document.getElementById("conversion").addEventListener("submit", (event) => {
  event.preventDefault();
  convertIt();
});
row.querySelector("[data-do=leave]").addEventListener("click", () => stop(row));
document.getElementById("deletion").addEventListener("submit", async (event) => {
  event.preventDefault();
  const title = part(row, "title").textContent;
  if (!(await confirmed(`Delete “${title}”? It cannot be brought back.`, "Delete it"))) return;
  event.target.submit();
});
addEventListener("hashchange", showChosen);
showChosen();
if (row.dataset.state !== "ready") resume([row], convertIt);
