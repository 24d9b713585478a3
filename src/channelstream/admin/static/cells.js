/**
 * The cells of tables. Those of channels, users, connections and nodes have columns that the server declares (`admin/columns.py`);
 * the headings carry them to here. A page declares the columns of its other tables by `columns`.
 */

import { byId, bytes, cell, chips, element, link, number, time } from "./dom.js";
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

/**
 * Declare the columns of a table: of each the heading, the class of its cells, and what they show of a row.
 * Return what makes a row, which a later one with the same key replaces.
 */
export function columns(id, keyOf, declared) {
  const headings = declared.map(([label, className]) => element("th", { scope: "col", className: className === "number" ? className : "" }, label));
  byId(id).createTHead().append(element("tr", {}, ...headings));
  return (row, index) => element("tr", { key: keyOf(row, index) }, ...declared.map(([, className, shows]) => cell(className, shows(row))));
}
