/** The cells of tables. The server declares the columns (`admin/columns.py`); the headings carry them to here. */

import { bytes, cell, chips, element, link, number, time } from "./dom.js";
import { shown } from "./names.js";

const CELLS = {
  text: (value) => cell("", value && shown(value)),
  word: (value) => cell("nowrap", value || "none yet"),
  id: (value) => cell("id", shown(value)),
  count: (value) => cell("number", value === null ? "unknown" : number(value)),
  bytes: (value) => cell("number", bytes(value)),
  time: (value) => cell("nowrap", value ? time(value) : ""),
  marks: (value) => cell("", chips(value)),
  pairs: (value) => cell("", chips(Object.entries(value).map(([key, each]) => `${key}: ${each}`))),
  lease: (value) => cell("nowrap", value ? "runs" : "has ended"),
  channel: (value) => cell("", link("channel", value)),
  user: (value) => cell("", link("user", value)),
  connection: (value) => cell("id", link("connection", value)),
};

/** Make the row of a table from an object with the names of its columns. */
export function rowOf(table, values) {
  const columns = [...table.tHead.rows[0].cells].map(({ dataset }) => dataset);
  const key = values.id ?? values[columns[0].name];
  return element("tr", { key }, ...columns.map((column) => CELLS[column.cell](values[column.name])));
}
