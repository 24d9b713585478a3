/** What admins did, newest first. */

import { cell, element, fault, fill, link, time } from "./dom.js";
import { shown } from "./names.js";
import { keepFresh, read } from "./server.js";

const LINKED = ["channel", "user", "connection"];

function actRow({ at, who, address, did, kind, name, more }, count) {
  return element(
    "tr",
    { key: `${at} ${count}` },
    cell("nowrap", time(at)),
    cell("", who ? shown(who) : element("span", { className: "muted" }, "unknown")),
    cell("nowrap", shown(address)),
    cell("", element("div", {}, did, ...aboutOf(kind, name), more && ", ", more && shown(more))),
  );
}

function aboutOf(kind, name) {
  if (!kind) return [];
  return [` ${kind} `, LINKED.includes(kind) ? link(kind, name) : shown(name)];
}

async function refresh() {
  try {
    const { rows } = await read("/data/acts");
    fill("acts", keyed(rows), { none: "Nobody has done anything." });
    fault("");
  } catch (error) {
    fault(error.message);
    return false;
  }
}

/** Two acts may have the same time. */
function keyed(rows) {
  const counts = new Map();
  return rows.map((row) => {
    counts.set(row.at, (counts.get(row.at) ?? 0) + 1);
    return actRow(row, counts.get(row.at));
  });
}

keepFresh(refresh);
