/** The overview: live figures of the service and of each node, charts of the last hour, and streams and connections that ended recently. */

import { Chart } from "./chart.js";
import { byId, bytes, cell, duration, element, fault, fill, link, number, time } from "./dom.js";
import { shown } from "./names.js";
import { read, watch } from "./server.js";

const KEPT = 720;
const TURNS = ["slow_turns", "longest_turn_ms", "pauses"];
const FIGURES = ["connections", "streams", "users", "channels", "published", "deliveries", ...TURNS];
const rate = (value) => `${number(value)}/s`;
/** The charts, each with the index of its value in a sample. */
const CHARTS = [
  [1, new Chart("Connections", { words: number })],
  [2, new Chart("Deliveries", { words: rate })],
  [3, new Chart("Messages published", { words: rate })],
  [4, new Chart("Delay of the event loop", { words: (value) => `${number(value)} ms`, floor: 10 })],
  [5, new Chart("Stalls of slow clients", { words: number })],
  [6, new Chart("Memory", { words: bytes, unit: 1024 * 1024 })],
];
let samples = [];

function showFigures(event, first) {
  for (const name of FIGURES) byId(name).textContent = event.figures[name] === null ? "unknown" : number(event.figures[name]);
  byId("uptime").textContent = duration(event.figures.uptime_s);
  fault(event.failure && `The other nodes are unknown, so these figures are those of one node. ${event.failure}`);
  showNodes(event.nodes);
  if (!first && !event.samples.length) return;
  samples = (first ? event.samples : [...samples, ...event.samples]).slice(-KEPT);
  for (const [index, chart] of CHARTS) chart.show(samples.map((sample) => [sample[0], sample[index]]));
  showEndings();
  showTurns();
}

/** Where there can be other nodes, show each of them, and which one answers. */
function showNodes(nodes) {
  const here = nodes.find(({ is_here: isHere }) => isHere);
  byId("nodes-panel").hidden = !here.id;
  if (!here.id) return;
  byId("answered").textContent = `; answered by ${here.label}`;
  fill("nodes", nodes.map(nodeRow));
}

function nodeRow({ id, label, is_here: isHere, failure, figures }) {
  const state = failure || (isHere ? "answers this page" : "serves");
  const { uptime_s: up, connections, streams, users, published, deliveries, slow_turns: slow } = figures ?? {};
  const counts = [connections, streams, users, published, deliveries, slow].map((count) => cell("number", count === undefined ? "–" : number(count)));
  return element("tr", { key: id }, cell("nowrap", label), cell("", state), cell("nowrap", up === undefined ? "–" : duration(up)), ...counts);
}

async function showEndings() {
  const { rows } = await read("/data/endings").catch(() => ({ rows: null }));
  if (rows) fill("endings", rows.map(endingRow), { none: "Nothing has ended yet." });
}

function endingRow({ at, conn_id: id, user, code, reason, final }) {
  return element(
    "tr",
    { key: `${at} ${id} ${final}` },
    cell("nowrap", time(at)),
    cell("id", link("connection", id)),
    cell("", link("user", user)),
    cell("number", code === null ? "–" : String(code)),
    cell("", final ? "Connection ended: " : "Stream ended: ", shown(reason)),
  );
}

async function showTurns() {
  const { rows } = await read("/data/slow_turns").catch(() => ({ rows: null }));
  if (rows) fill("turns", rows.map(turnRow), { none: "None was slow." });
}

function turnRow({ at, ms, cpu_ms: cpu, cause, is_pause: isPause, stack }) {
  return element(
    "tr",
    { key: at },
    cell("nowrap", time(at)),
    cell("number", number(ms)),
    cell("number", number(cpu)),
    cell("", cause),
    cell("id", isPause ? "–" : stack),
  );
}

byId("charts").append(...CHARTS.map(([, chart]) => chart.element));
for (const [, chart] of CHARTS) chart.show([]);
watch(showFigures);
