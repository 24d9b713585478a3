/** Shared code of the pages about one channel, user or connection. */

import { byId, element, fault, link, time } from "./dom.js";
import { keepFresh, read } from "./server.js";

const { root } = document.documentElement.dataset;
/** The kinds, by their names on the trace page. */
const TRACED = { channel: "channel", user: "user", connection: "conn_id" };

export const name = new URLSearchParams(location.search).get("name") ?? "";

/** Fetch the channel, user or connection repeatedly and `show` it. Returns a function that does so at once. */
export function follow(kind, show) {
  byId("title").textContent = name;
  byId("trace").href = `${root}/admin/trace?${new URLSearchParams({ [TRACED[kind]]: name })}`;
  document.title = `${name} · ${document.title}`;
  return keepFresh(async () => {
    try {
      show(await read(`/data/${kind}?${new URLSearchParams({ name })}`));
      byId("detail").hidden = false;
      fault("");
    } catch (error) {
      fault(error.message);
      // Not found: hide it. Any other failure leaves the last content on the page.
      if (error.status === 404) byId("detail").hidden = true;
    }
  });
}

/** Show facts. Each is a name and a value; the value is a text or an element. */
export function facts(pairs) {
  const rows = pairs.map(([term, what]) => element("div", {}, element("dt", {}, term), element("dd", {}, what)));
  byId("facts").replaceChildren(...rows);
}

export const linkItem = (kind, text, note = "") => element("li", {}, link(kind, text), note);

/** An item of a list of events: a head in grey, and the JSON as the client received it. */
export function eventItem(head, json) {
  return element("li", {}, element("p", { className: "muted" }, ...head), ...(json ? [element("code", {}, json)] : []));
}

export function endingItem({ at, code, reason, final }) {
  const what = final ? "Connection ended" : "Stream ended";
  return element("li", {}, element("span", { className: "muted" }, `${time(at)} `), `${what}: ${reason}`, code === null ? "" : ` (${code})`);
}

