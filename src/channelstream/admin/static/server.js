/** Calls of the admin endpoints: read data, do an action, watch the server's stream of figures. */

import { byId } from "./dom.js";

const { root } = document.documentElement.dataset;
/** If nothing arrives from the server for so long, the page says that its figures are stale. */
const STALE_MS = 3000;
const RETRY_MS = 4000;

/** A refusal of the server, with its status. */
export class Refused extends Error {
  constructor(status, body) {
    super(typeof body?.error === "string" ? body.error : `The server answered ${status}: ${JSON.stringify(body)}`);
    this.status = status;
  }
}

/** Fetch a document below /admin. If the session has ended, the page goes to the sign-in form, or says so. */
export async function read(path) {
  return answer(await fetch(`${root}/admin${path}`, { redirect: "manual", cache: "no-store" }));
}

/** Do something; `body` is that of the API's call. */
export async function act(action, body) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", redirect: "manual", headers, body: JSON.stringify(body) };
  return answer(await fetch(`${root}/admin/do/${action}`, options));
}

/** Whether the person has typed into a form of this page, which would be lost with the page. */
let typed = false;
document.addEventListener("input", ({ target }) => (typed ||= target.form !== null));

async function answer(response) {
  if (response.type === "opaqueredirect") return signIn();
  byId("ended").hidden = true;
  // A truncated success means that the connection was lost: it fails like a request without an answer.
  const body = await (response.ok ? response.json() : response.json().catch(() => null));
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

/** The session has ended: go to the form, or say so where that would lose what was typed. */
function signIn() {
  const here = location.pathname.slice(root.length) + location.search;
  const form = `${root}/admin/sign_in?${new URLSearchParams({ next: here, ended: "1" })}`;
  if (!typed) {
    location.assign(form);
    return new Promise(() => {});
  }
  byId("ended").querySelector("a").href = form;
  byId("ended").hidden = false;
  throw new Refused(401, { error: "Your session has ended." });
}

/**
 * Watch the server's figures, or what else a path streams, while this page is visible. A hidden page holds no connection.
 * @param receive is called with each event, and with true for the first of a stream.
 */
export function watch(receive, path = "/live") {
  let source = null;
  let first = true;
  let stale = 0;
  let retry = 0;

  function open() {
    close();
    source = new EventSource(`${root}/admin${path}`);
    source.onopen = () => (first = true);
    source.onmessage = ({ data }) => {
      fresh(true);
      clearTimeout(stale);
      stale = setTimeout(() => fresh(false), STALE_MS);
      receive(JSON.parse(data), first);
      first = false;
    };
    source.onerror = () => source.readyState === EventSource.CLOSED && refused();
  }

  /** The browser does not retry: the server is full, or the admin is no longer signed in, which `read` detects. */
  async function refused() {
    fresh(false);
    await read("/data/endings").catch(() => {});
    clearTimeout(retry);
    retry = setTimeout(open, RETRY_MS * (1 + Math.random()));
  }

  function close() {
    source?.close();
    clearTimeout(stale);
    clearTimeout(retry);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  if (!document.hidden) open();
  stale = setTimeout(() => fresh(false), STALE_MS);
}

/** Whether the server sends something, and whether the page shows what was read last. */
let live = false;
let updated = true;

function fresh(answers, read = updated) {
  [live, updated] = [answers, read];
  const mark = byId("freshness");
  const text = !live ? "No answer, retrying" : updated ? "Live" : "Not updated, retrying";
  if (mark.textContent === text) return;
  mark.textContent = text;
  mark.toggleAttribute("data-live", live && updated);
}

/**
 * Keep a page up to date: `refresh` is called now, and after each sample of the server, never twice at once.
 * A large table takes the server long, so refreshing takes at most a tenth of the time.
 * @param refresh returns false if the page still shows what was read before.
 * @returns a function that refreshes at once.
 */
export function keepFresh(refresh) {
  let last = Promise.resolve();
  let waiting = 0;
  let restUntil = 0;

  async function run() {
    const begun = performance.now();
    const read = (await refresh()) !== false;
    if (read !== updated) fresh(live, read);
    restUntil = performance.now() + 9 * (performance.now() - begun);
  }

  function now() {
    waiting += 1;
    last = last.then(run).finally(() => (waiting -= 1));
    return last;
  }

  watch(({ new_samples: added }) => {
    if (added && !waiting && performance.now() > restUntil) now();
  });
  now();
  return now;
}
