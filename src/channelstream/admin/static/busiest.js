/** The tables of the busiest channels and callers of the last minute. */

import { columns } from "./cells.js";
import { element, fill, link, number } from "./dom.js";
import { shown } from "./names.js";

const { root } = document.documentElement.dataset;
const rate = (value) => `${number(Number(value.toPrecision(3)))}/s`;

/** Fill both tables. */
export function fillBusiest({ channels, callers }) {
  fill("busy-channels", channels.map(channelRow), { none: "Nothing was sent in the last minute." });
  fill("busy-callers", callers.map(callerRow), { none: "Nobody has called in the last minute." });
}

const traceOf = (channel) => element("a", { href: `${root}/admin/trace?${new URLSearchParams({ channel })}` }, "Trace");
const channelRow = columns("busy-channels", ({ name }) => name, [
  ["Channel", "", ({ name }) => link("channel", name)],
  ["Messages", "number", ({ published }) => rate(published)],
  ["Deliveries", "number", ({ deliveries }) => rate(deliveries)],
  ["Why not delivered", "nowrap", ({ name }) => traceOf(name)],
]);
const callerRow = columns("busy-callers", ({ address, key }) => `${address} ${key}`, [
  ["Address", "id", ({ address }) => shown(address)],
  ["Key", "id", ({ key }) => shown(key || "–")],
  ["Calls", "number", ({ calls }) => rate(calls)],
  ["Refused", "number", ({ refused }) => rate(refused)],
]);
