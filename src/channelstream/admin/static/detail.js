/** Shared code of the pages about one channel, user or connection. */

import { byId, element, fault, link, time } from "./dom.js";
import { plain, shown } from "./names.js";
import { keepFresh, read } from "./server.js";
import { update } from "./update.js";

const { root } = document.documentElement.dataset;
/** The kinds, by their names on the trace page. */
const TRACED = { channel: "channel", user: "user", connection: "conn_id" };

export const name = new URLSearchParams(location.search).get("name") ?? "";

/** Fetch the channel, user or connection repeatedly and `show` it. Returns a function that does so at once. */
export function follow(kind, show) {
  byId("title").replaceChildren(shown(name));
  byId("trace").href = `${root}/admin/trace?${new URLSearchParams({ [TRACED[kind]]: name })}`;
  document.title = `${plain(name)} · ${document.title}`;
  return keepFresh(async () => {
    try {
      show(await read(`/data/${kind}?${new URLSearchParams({ name })}`));
      byId("detail").hidden = false;
      fault("");
    } catch (error) {
      fault(error.message);
      // Not found: hide it. Any other failure leaves the last content on the page.
      if (error.status === 404) byId("detail").hidden = true;
      else return false;
    }
  });
}

byId("copy").addEventListener("click", async () => {
  // The clipboard is for pages over TLS or from this machine; elsewhere the older way copies a selected field.
  await (navigator.clipboard?.writeText(name) ?? copySelected());
  byId("copied").textContent = "Copied";
});

function copySelected() {
  const field = element("textarea", { value: name, className: "visually-hidden" });
  byId("copy").after(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  byId("copy").focus();
}

/** Show facts. Each is a name and a value; the value is a text or an element. */
export function facts(pairs) {
  const rows = pairs.map(([term, what]) => element("div", { key: term }, element("dt", {}, term), element("dd", {}, what)));
  update(byId("facts"), rows);
}

export const linkItem = (kind, text, note = "") => element("li", { key: text }, link(kind, text), note);

/** An item of a list of events: a head in grey, and the JSON as the client received it. */
export function eventItem(key, head, json) {
  return element("li", { key }, element("p", { className: "muted" }, ...head), ...(json ? [element("code", {}, shown(json))] : []));
}

/** An item of a list of endings; `showsId` links the connection. */
export function endingItem({ at, conn_id: id, code, reason, final }, showsId = false) {
  const what = final ? "Connection ended" : "Stream ended";
  return element("li", { key: `${at} ${id} ${final}` }, element("span", { className: "muted" }, `${time(at)} `), ...(showsId ? [link("connection", id), " "] : []), `${what}: `, shown(reason), code === null ? "" : ` (${code})`);
}
