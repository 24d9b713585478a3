/** The biggest states of users and histories of channels. They are read when they are asked for: all users and channels are looked at. */

import { columns } from "./cells.js";
import { byId, bytes, element, fill, link } from "./dom.js";
import { read } from "./server.js";

const { root } = document.documentElement.dataset;
const SHOWN = 10;
const TABLES = [
  { kind: "user", label: "User", table: "users", size: "state_bytes", what: "Bytes of the state", id: "big-states", none: "No user has a state." },
  { kind: "channel", label: "Channel", table: "channels", size: "history_bytes", what: "Bytes of the history", id: "big-histories", none: "No channel has a history." },
].map((each) => ({ ...each, rowOf: declared(each) }));

/** Fill the tables whenever their section is opened. */
export function watchBiggest() {
  byId("biggest").addEventListener("toggle", ({ target }) => target.open && TABLES.forEach(show));
}

/** Declare the columns of one of the tables, whose second heading leads to all rows. */
function declared({ kind, label, table, size, what, id }) {
  const all = element("a", { href: `${root}/admin/${table}?${largestOf(size)}` }, what);
  return columns(id, ({ name }) => name, [
    [label, "", ({ name }) => link(kind, name)],
    [all, "number", (row) => bytes(row[size])],
  ]);
}

function largestOf(size) {
  return new URLSearchParams({ sort: size, descending: true });
}

async function show({ table, size, id, none, rowOf }) {
  const answer = await read(`/data/${table}?${largestOf(size)}`).catch(() => null);
  if (!answer) return;
  const found = answer.rows.filter((row) => row[size]).slice(0, SHOWN);
  fill(id, found.map(rowOf), { none });
}
