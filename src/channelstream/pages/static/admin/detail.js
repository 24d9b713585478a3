/** What the pages about one channel, user or connection share. */

import { byId, element, fault, link, time } from "./dom.js";
import { keepFresh, read } from "./server.js";

const { root } = document.documentElement.dataset;
/** What the page of traces calls these things. */
const TRACED = { channel: "channel", user: "user", connection: "conn_id" };

export const name = new URLSearchParams(location.search).get("name") ?? "";

/** Fetch the thing again and again and `show` it; returns a function that does so at once. */
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
      // What is gone is no longer shown; what could not be fetched stays.
      if (error.status === 404) byId("detail").hidden = true;
    }
  });
}

/** Show facts, each a name and what to write, text or an element. */
export function facts(pairs) {
  const rows = pairs.map(([term, what]) => element("div", {}, element("dt", {}, term), element("dd", {}, what)));
  byId("facts").replaceChildren(...rows);
}

export const linkItem = (kind, text, note = "") => element("li", {}, link(kind, text), note);

/** A line of a list of events: a head in grey, and JSON as it went over the line. */
export function eventItem(head, json) {
  return element("li", {}, element("p", { className: "muted" }, ...head), ...(json ? [element("code", {}, json)] : []));
}

export function endingItem({ at, code, reason, final }) {
  const what = final ? "Connection ended" : "Stream ended";
  return element("li", {}, element("span", { className: "muted" }, `${time(at)} `), `${what}: ${reason}`, code === null ? "" : ` (${code})`);
}

