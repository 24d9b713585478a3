/** The biggest states of users and histories of channels. They are read when they are asked for: all users and channels are looked at. */

import { byId, bytes, cell, element, fill, link } from "./dom.js";
import { read } from "./server.js";

const SHOWN = 10;
const TABLES = [
  { kind: "user", table: "users", size: "state_bytes", id: "big-states", none: "No user has a state." },
  { kind: "channel", table: "channels", size: "history_bytes", id: "big-histories", none: "No channel has a history." },
];

/** Fill the tables whenever their section is opened. */
export function watchBiggest() {
  byId("biggest").addEventListener("toggle", ({ target }) => target.open && TABLES.forEach(show));
}

async function show({ kind, table, size, id, none }) {
  const answer = await read(`/data/${table}?${new URLSearchParams({ sort: size, descending: true })}`).catch(() => null);
  if (!answer) return;
  const found = answer.rows.filter((row) => row[size]).slice(0, SHOWN);
  fill(id, found.map((row) => element("tr", { key: row.name }, cell("", link(kind, row.name)), cell("number", bytes(row[size])))), { none });
}
