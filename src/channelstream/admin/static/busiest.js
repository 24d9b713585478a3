/** The tables of the busiest channels and callers of the last minute. */

import { cell, element, fill, link, number } from "./dom.js";
import { shown } from "./names.js";

const { root } = document.documentElement.dataset;
const rate = (value) => cell("number", `${number(Number(value.toPrecision(3)))}/s`);

/** Fill both tables. */
export function fillBusiest({ channels, callers }) {
  fill("busy-channels", channels.map(channelRow), { none: "Nothing was sent in the last minute." });
  fill("busy-callers", callers.map(callerRow), { none: "Nobody has called in the last minute." });
}

function channelRow({ name, published, deliveries }) {
  const trace = element("a", { href: `${root}/admin/trace?${new URLSearchParams({ channel: name })}` }, "Trace");
  return element("tr", { key: name }, cell("", link("channel", name)), rate(published), rate(deliveries), cell("nowrap", trace));
}

function callerRow({ address, key, calls, refused }) {
  return element("tr", { key: `${address} ${key}` }, cell("id", shown(address)), cell("id", shown(key || "–")), rate(calls), rate(refused));
}
