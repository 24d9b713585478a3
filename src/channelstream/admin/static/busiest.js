/** The busiest channels and callers of the last minute, and where the biggest states and histories are. */

import { cell, element, fill, link, number } from "./dom.js";
import { shown } from "./names.js";
import { read } from "./server.js";

const { root } = document.documentElement.dataset;
const rate = (value) => cell("number", `${number(Number(value.toPrecision(3)))}/s`);

export async function showBusiest() {
  const answer = await read("/data/busiest").catch(() => null);
  if (!answer) return;
  fill("busy-channels", answer.channels.map(channelRow), { none: "Nothing was sent in the last minute." });
  fill("busy-callers", answer.callers.map(callerRow), { none: "Nobody has called in the last minute." });
}

function channelRow({ name, published, deliveries }) {
  const trace = element("a", { href: `${root}/admin/trace?${new URLSearchParams({ channel: name })}` }, "Trace");
  return element("tr", { key: name }, cell("", link("channel", name)), rate(published), rate(deliveries), cell("nowrap", trace));
}

function callerRow({ address, key, calls, refused }) {
  return element("tr", { key: `${address} ${key}` }, cell("id", shown(address)), cell("id", shown(key || "–")), rate(calls), rate(refused));
}
