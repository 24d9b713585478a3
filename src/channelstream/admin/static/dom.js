/** Creates elements and formats numbers and times. Untrusted text becomes text nodes only, never HTML. */

import { shown } from "./names.js";
import { update } from "./update.js";

const { root } = document.documentElement.dataset;
const SVG = "http://www.w3.org/2000/svg";
const whole = new Intl.NumberFormat();
const when = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });

export const byId = (id) => document.getElementById(id);
export const number = (value) => whole.format(value);
/** A number of things, as "1 note" or "2 notes". */
export const counted = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

/** A value with its unit, between which no line breaks. */
export const measure = (value, unit) => `${value}\u00a0${unit}`;

/** Make an element with properties and children; a string child is text. By the property `key` a later one replaces it (`update`). */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Make an element of a drawing (SVG). */
export function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A cell of a table; `className` "number" draws it to the right. On a narrow screen its children stand side by side. */
export const cell = (className, ...children) => element("td", { className }, ...children);

/** The address of the page about one thing; `kind` is channel, user or connection. */
const pageOf = (kind, name) => `${root}/admin/${kind}?${new URLSearchParams({ name })}`;
export const link = (kind, name) => element("a", { href: pageOf(kind, name) }, shown(name));

export function chips(texts) {
  return element("div", { className: "chips" }, ...texts.map((text) => element("span", { className: "chip" }, shown(text))));
}

/** The server's times are in UTC, without a zone. */
export function time(timestamp) {
  const zoned = /Z|[+-]\d\d:?\d\d$/.test(timestamp) ? timestamp : `${timestamp}Z`;
  const read = new Date(zoned);
  return Number.isNaN(read.getTime()) ? timestamp : when.format(read);
}

export function bytes(count) {
  if (count < 1024) return measure(number(count), "B");
  const units = ["KB", "MB", "GB", "TB"];
  const step = Math.min(Math.floor(Math.log2(count) / 10), units.length);
  return measure(number(Number((count / 1024 ** step).toPrecision(3))), units[step - 1]);
}

/** A time in whole seconds as days, hours, minutes and seconds, of which the first two that count are named, without a zero. */
export function duration(seconds) {
  const parts = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"], [Math.floor(seconds / 60) % 60, "min"], [seconds % 60, "s"]];
  const first = parts.findIndex(([count]) => count);
  const named = first < 0 ? parts.slice(-1) : parts.slice(first, first + 2);
  return named.filter(([count], index) => count || !index).map((part) => measure(...part)).join(" ");
}

/** Show an error, or hide it if the text is empty. */
export function fault(text) {
  byId("fault").textContent = text;
  byId("fault").hidden = !text;
}

/** Fill the body of a table. On a narrow screen each cell has its heading beside it (`tables.css`). */
export function fillRows(table, rows) {
  const labels = [...table.tHead.rows[0].cells].map(({ textContent }) => textContent.trim());
  for (const row of rows) labels.forEach((label, index) => (row.cells[index].dataset.label = label));
  update(table.tBodies[0], rows);
}

/** Fill a list or a table's body. Below it the page says that it is empty, or how many items are left out. */
export function fill(id, items, { all = items.length, none = "None." } = {}) {
  const target = byId(id);
  if (target.tBodies) fillRows(target, items);
  else update(target, items);
  const left = all - items.length;
  byId(`${id}-rest`).textContent = items.length === 0 ? none : left > 0 ? `And ${number(left)} more.` : "";
}
