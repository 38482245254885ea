// The lists of the admin that show what goes on now: they are fetched anew while nobody selects anything.
"use strict";
const SECONDS = 5;

async function refresh() {
  const busy = document.hidden || document.querySelector("#result_list input:checked");
  if (busy || !document.querySelector("#result_list tbody")) return;
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const rows = fresh.querySelector("#result_list tbody");
  if (rows && !document.querySelector("#result_list input:checked")) {
    document.querySelector("#result_list tbody").replaceWith(rows);
  }
}

setInterval(() => refresh().catch(() => undefined), SECONDS * 1000); // the next one may succeed
