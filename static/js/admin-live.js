// The lists of the admin that show what goes on now: they are fetched anew while nobody selects anything.
"use strict";
const SECONDS = 5;

async function refresh() {
  if (document.hidden || isUsed() || !document.querySelector("#result_list tbody")) return;
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const rows = fresh.querySelector("#result_list tbody");
  if (rows && !isUsed()) show(rows);
}

/** Django's actions know the boxes that were there when the page came: those stay, and others are made known. */
function show(rows) {
  const old = new Map(boxes(document).map((box) => [box.value, box]));
  const now = boxes(rows);
  const same = now.length === old.size && now.every(({ value }) => old.has(value));
  for (const box of same ? now : []) box.replaceWith(old.get(box.value));
  const body = document.querySelector("#result_list tbody");
  if (same) body.replaceChildren(...rows.children);
  else {
    body.replaceWith(rows);
    if (now.length) window.Actions?.(document.querySelectorAll("tr input.action-select"));
  }
}

const boxes = (among) => [...among.querySelectorAll("input.action-select")];

/** Whether somebody has selected something, or is about to. */
function isUsed() {
  return document.querySelector("#result_list input:checked, #result_list tbody :focus") !== null;
}

setInterval(() => refresh().catch(() => undefined), SECONDS * 1000); // the next one may succeed
