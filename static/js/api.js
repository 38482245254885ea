// The one place where pages talk to the API: the same routes that everybody uses.

/** An answer that is not the one hoped for; `message` is a sentence for people, `body` the whole answer. */
export class Refused extends Error {
  constructor(body, status, id) {
    const sentence = body.error ?? "Something went wrong. Please try again.";
    super(status === 500 && id ? `${sentence} The operator can look it up by this number: ${id}` : sentence);
    this.body = body;
    this.status = status;
  }
}

/** The server could not be reached, or the connection broke. */
export class Offline extends Error {
  constructor() {
    super("The server cannot be reached. Please check your connection and try again.");
  }
}

const idOf = (response) => response.headers.get("X-Request-ID");

const csrf = () => document.querySelector("meta[name=csrf]").content;

async function send(path, { method = "GET", json, form, headers = {}, signal } = {}) {
  const body = json === undefined ? form : JSON.stringify(json);
  const all = { Accept: "application/json", "X-CSRFToken": csrf(), ...headers };
  if (json !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, body, headers: all, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Offline();
  }
  if (!response.ok) throw new Refused(await response.json().catch(() => ({})), response.status, idOf(response));
  return response;
}

/** A JSON answer. Throws Refused, Offline, or an AbortError. */
export async function ask(path, options) {
  const response = await send(path, options);
  return response.json();
}

/** One of our own pages, parsed. Throws as `ask` does. */
export async function load(path) {
  const response = await send(path, { headers: { Accept: "text/html" } });
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/**
 * POST and follow the events of the answer, waiting in the queue for as long as it takes; `on` maps the
 * names of events to functions of their data. Returns the data of `done`. Throws as `ask` does.
 */
export async function follow(path, json, { on = {}, signal } = {}) {
  const headers = { Accept: "text/event-stream", Prefer: "wait=3600" };
  const response = await send(path, { method: "POST", json, headers, signal });
  try {
    for await (const [name, data] of eventsOf(response.body)) {
      if (name === "done") return data;
      if (name === "error") throw new Refused(data, data.status, idOf(response));
      on[name]?.(data);
    }
  } catch (error) {
    throw error.name === "AbortError" || error instanceof Refused ? error : new Offline();
  }
  throw new Offline();
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/s) ?? [];
        if (name) yield [name, JSON.parse(data)];
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
