/** How often streams and connections ended in the range of the charts, by code and reason, with a small chart for each group. */

import { columns } from "./cells.js";
import { fill, number, shape } from "./dom.js";
import { shown } from "./names.js";

/** Bars of a small chart. */
const BARS = 48;
const HEIGHT = 20;

/** Fill the table of groups. @param points are the time and the counts by group of each interval, oldest first. */
export function showGroups(points) {
  const names = new Set(points.flatMap(([, counts]) => Object.keys(counts)));
  const groups = [...names].map((name) => groupOf(name, points)).sort((one, other) => other.times - one.times);
  fill("groups", groups.map(groupRow), { none: "Nothing has ended in this time." });
}

/** Add up the counts of a group, in all and for each bar. */
function groupOf(name, points) {
  const [begin, end] = [points[0][0], points.at(-1)[0]];
  const bars = new Array(BARS).fill(0);
  for (const [at, { [name]: count = 0 }] of points) bars[Math.floor((BARS - 1) * ((at - begin) / (end - begin || 1)))] += count;
  const [code, kind, ...words] = name.split(" ");
  return { name, code, kind, reason: words.join(" "), bars, times: bars.reduce((sum, count) => sum + count) };
}

const groupRow = columns("groups", ({ name }) => name, [
  ["Code", "number", ({ code }) => (code === "none" ? "–" : code)],
  ["What", "nowrap", ({ kind }) => kind],
  ["Why", "", ({ reason }) => shown(reason)],
  ["Times", "number", ({ times }) => number(times)],
  ["When", "spark", ({ bars }) => drawn(bars)],
]);

/** Draw the bars. The table says how many they are in all, so they are hidden from screen readers. */
function drawn(bars) {
  const svg = shape("svg", { viewBox: `0 0 ${BARS} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const most = Math.max(...bars);
  // The least height is seen beside a much higher bar.
  const heights = bars.map((count) => (count ? Math.max(2, (HEIGHT * count) / most) : 0));
  svg.append(shape("path", { d: heights.map((height, place) => (height ? `M${place} ${HEIGHT}v${-height}h0.8v${height}z` : "")).join("") }));
  return svg;
}
