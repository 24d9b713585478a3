/** What admins did, newest first. */

import { columns } from "./cells.js";
import { element, fault, fill, link, time } from "./dom.js";
import { shown } from "./names.js";
import { keepFresh, read } from "./server.js";

const LINKED = ["channel", "user", "connection"];

const actRow = columns("acts", ({ at, count }) => `${at} ${count}`, [
  ["When", "nowrap", ({ at }) => time(at)],
  ["Who", "", ({ who }) => (who ? shown(who) : element("span", { className: "muted" }, "unknown"))],
  ["Address", "nowrap", ({ address }) => shown(address)],
  ["What", "", ({ did, kind, name, more }) => element("div", {}, did, ...aboutOf(kind, name), more && ", ", more && shown(more))],
]);

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
    return actRow({ ...row, count: counts.get(row.at) });
  });
}

keepFresh(refresh);
