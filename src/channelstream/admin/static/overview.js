/** The overview: live figures of the service and of each node, charts of the past, and streams and connections that ended recently. */

import { watchBiggest } from "./biggest.js";
import { fillBusiest } from "./busiest.js";
import { columns } from "./cells.js";
import { Chart } from "./chart.js";
import { byId, bytes, counted, duration, element, fault, fill, link, measure, number, time } from "./dom.js";
import { engineFailures, engineText, isAway } from "./engine.js";
import { showGroups } from "./groups.js";
import { shown } from "./names.js";
import { read, watch } from "./server.js";

const COUNTS = ["connections", "streams", "users", "channels", "published", "deliveries", "written", "replayed", "lost", "slow_clients"];
const TURNS = ["slow_turns", "longest_turn_ms", "pauses"];
/** The figures, each with what writes its value. */
const FIGURES = [...[...COUNTS, ...TURNS].map((name) => [name, number]), ["taken_bytes", bytes], ["dropped_bytes", bytes]];
const MARKS = 10;
const rate = (value) => `${number(value)}/s`;
const milliseconds = (value) => measure(number(value), "ms");
/** Three figures, between which a line may break but not within. */
const percentiles = (name) => (of) => {
  const [p50, p95, p99] = [50, 95, 99].map((part) => of(`${name}_p${part}_ms`));
  return `p50 ${number(p50)}, p95 ${number(p95)}, p99 ${milliseconds(p99)}`.replaceAll(/(?<!,) /g, "\u00a0");
};
/** How many ended, and the close code of most of them. */
function endedText(of) {
  const [most] = Object.entries(of("endings")).sort(([, one], [, other]) => other - one);
  if (!most) return "0";
  const [code] = most[0].split(" ");
  return `${number(of("ended"))}, ${number(most[1])} of them with ${code === "none" ? "no code" : `code ${code}`}`;
}

/** The charts, each with the series of the history that it draws, and what says more than the value: words of other series. */
const CHARTS = [
  ["connections", new Chart("Connections", { words: number })],
  ["deliveries", new Chart("Deliveries", { words: rate })],
  ["written", new Chart("Events written", { words: rate })],
  ["taken_bytes", new Chart("Bytes that clients' sockets took", { words: (value) => `${bytes(value)}/s`, unit: 1024 })],
  ["replayed", new Chart("Replayed events", { words: rate, floor: 1 }), (of) => `${rate(of("replayed"))}, ${counted(of("lost"), "channel")} lost`],
  ["dropped_bytes", new Chart("Bytes dropped with ended streams", { words: bytes, unit: 1024 })],
  ["published", new Chart("Messages published", { words: rate })],
  ["latency_p99_ms", new Chart("Latency from publish to write", { words: milliseconds, floor: 10 }), percentiles("latency")],
  ["refused", new Chart("Refused requests", { words: rate, floor: 1 })],
  ["ended", new Chart("Streams and connections ended", { words: number }), endedText],
  ["stalls", new Chart("Stalls of slow clients", { words: number })],
  ["delay_ms", new Chart("Delay of the event loop", { words: milliseconds, floor: 10 })],
  ["engine_p99_ms", new Chart("Calls of the engine", { words: milliseconds, floor: 10 }), percentiles("engine")],
  ["engine_failed", new Chart("Failed calls of the engine", { words: number }), engineFailures],
  ["descriptors", new Chart("Open descriptors", { words: number }), (of) => `${number(of("descriptors"))} of ${number(of("descriptor_limit"))}`],
  ["cpu_percent", new Chart("CPU", { words: (value) => measure(number(value), "%"), floor: 100 })],
  ["memory_bytes", new Chart("Memory", { words: bytes, unit: 1024 * 1024 })],
];
/** The charts of an engine that is a file or a service: calls of the others are not measured. */
const OF_ENGINE = ["engine_p99_ms", "engine_failed"];
const range = new URLSearchParams(location.search).get("range") ?? "hour";
let rows = [];

function showFigures(event, first) {
  for (const [name, words] of FIGURES) byId(name).textContent = event.figures[name] === null ? "unknown" : words(event.figures[name]);
  byId("uptime").textContent = duration(event.figures.uptime_s);
  fault(event.failure && `The other nodes are unknown, so these figures are those of one node. ${event.failure}`);
  byId("descriptors").textContent = `${number(event.figures.descriptors)} of ${number(event.figures.descriptor_limit)}`;
  showEngine(event.nodes.map(({ figures }) => figures).filter(Boolean));
  showNodes(event.nodes);
  if (!first && !event.new_samples) return;
  showHistory();
  showSlow(event.figures.slow_clients);
  showBusiest();
  showEndings();
  showRefused();
  showTurns();
}

function showEngine(nodes) {
  byId("engine").textContent = engineText(nodes);
  byId("engine").toggleAttribute("data-fault", nodes.some(isAway));
}

/** Fetch the rows of the history that are new, and draw all. Old rows are dropped as the server drops them. */
async function showHistory() {
  const since = rows.length ? rows.at(-1)[0] : 0;
  const answer = await read(`/data/history?${new URLSearchParams({ range, since })}`).catch(() => null);
  if (!answer) return;
  // Another answer may have come meanwhile.
  const known = rows.length ? rows.at(-1)[0] : 0;
  const places = Object.fromEntries(answer.columns.map((name, place) => [name, place]));
  const added = answer.rows.filter(([at]) => at > known);
  for (const row of added) row[places.endings] = Object.fromEntries(row[places.endings].map(([group, count]) => [answer.groups[group], count]));
  rows = [...rows, ...added];
  rows = rows.filter(([at]) => at > rows.at(-1)[0] - answer.kept_s);
  const options = { marks: answer.marks, gap: 2.5 * answer.interval_s };
  const point = (row, name, more) => [row[0], row[places[name]], row[places[name]] === null ? undefined : more?.((other) => row[places[other]])];
  showGroups(rows.map((row) => [row[0], row[places.endings]]));
  const isMeasured = rows.some((row) => row[places.engine_p99_ms] !== null);
  for (const [name, chart, more] of CHARTS) {
    chart.element.hidden = OF_ENGINE.includes(name) && !isMeasured;
    chart.show(rows.map((row) => point(row, name, more)), options);
  }
  fill("marks", answer.marks.slice(-MARKS).reverse().map(markItem), { all: answer.marks.length, none: "Nothing has happened." });
}

function markItem({ at_s: at, kind, text }) {
  return element("li", { key: `${at} ${kind}` }, element("span", { className: "muted" }, `${time(new Date(1000 * at).toISOString())} `), `${kind}: ${text}`);
}

/** Where there can be other nodes, show each of them, and which one answers. */
function showNodes(nodes) {
  const here = nodes.find(({ is_here: isHere }) => isHere);
  byId("nodes-panel").hidden = !here.id;
  if (!here.id) return;
  byId("answered").textContent = `; answered by ${here.label}`;
  fill("nodes", nodes.map(nodeRow));
}

/** A figure of a node, in words; a node that does not answer has none. */
const figure = (name, words = number) => ({ figures }) => (figures ? words(figures[name]) : "–");
const nodeRow = columns("nodes", ({ id }) => id, [
  ["Node", "nowrap", ({ label }) => label],
  ["State", "", ({ failure, is_here: isHere }) => failure || (isHere ? "answers this page" : "serves")],
  ["Up", "nowrap", figure("uptime_s", duration)],
  ["Connections", "number", figure("connections")],
  ["Streams", "number", figure("streams")],
  ["Users online", "number", figure("users")],
  ["Messages", "number", figure("published")],
  ["Deliveries", "number", figure("deliveries")],
  ["Slow turns", "number", figure("slow_turns")],
]);

async function showEndings() {
  const { rows } = await read("/data/endings").catch(() => ({ rows: null }));
  if (rows) fill("endings", rows.map(endingRow), { none: "Nothing has ended since the start." });
}

const endingRow = columns("endings", ({ at, conn_id: id, final }) => `${at} ${id} ${final}`, [
  ["When", "nowrap", ({ at }) => time(at)],
  ["Connection", "id", ({ conn_id: id }) => link("connection", id)],
  ["User", "", ({ user }) => link("user", user)],
  ["Code", "number", ({ code }) => (code === null ? "–" : String(code))],
  ["Why", "", ({ final, reason }) => element("span", {}, final ? "Connection ended: " : "Stream ended: ", shown(reason))],
]);

async function showSlow(all) {
  const { rows } = await read("/data/slow_clients").catch(() => ({ rows: null }));
  if (rows) fill("slow", rows.map(slowRow), { all: Math.max(all, rows.length), none: "None is slow." });
}

/** How far a client is behind, in words. */
const behind = (words) => ({ lag }) => (lag ? words(lag) : "–");
const orMore = ({ more }) => (more ? " or more" : "");
const slowRow = columns("slow", ({ id }) => id, [
  ["Since", "nowrap", ({ since }) => time(since)],
  ["Connection", "id", ({ id }) => link("connection", id)],
  ["User", "", ({ user }) => link("user", user)],
  ["Transport", "nowrap", ({ transport }) => transport],
  ["Events behind", "number", behind((lag) => number(lag.events) + orMore(lag))],
  ["Bytes behind", "number", behind((lag) => bytes(lag.bytes) + orMore(lag))],
  ["Seconds behind", "number", behind((lag) => number(lag.seconds))],
  ["Bytes not read", "number", ({ waiting_bytes: unread }) => bytes(unread)],
]);

async function showBusiest() {
  const answer = await read("/data/busiest").catch(() => null);
  if (answer) fillBusiest(answer);
}

async function showRefused() {
  const { rows } = await read("/data/refused").catch(() => ({ rows: null }));
  if (rows) fill("refused", rows.map(refusedRow), { none: "Nothing was refused since the start." });
}

const refusedRow = columns("refused", ({ method, route, status, code, address }) => `${method} ${route} ${status} ${code} ${address}`, [
  ["Last", "nowrap", ({ at }) => time(at)],
  ["Request", "id", ({ method, route, status }) => shown(`${method} ${route || (status === 404 ? "unknown path" : "page")}`)],
  ["Status", "number", ({ status }) => String(status)],
  ["Reason", "", ({ code }) => code],
  ["Caller", "id", ({ address }) => shown(address)],
  ["Times", "number", ({ count }) => number(count)],
]);

async function showTurns() {
  const { rows } = await read("/data/slow_turns").catch(() => ({ rows: null }));
  if (!rows) return;
  byId("turns").toggleAttribute("data-one-node", !rows.some(({ node }) => node));
  fill("turns", rows.map(turnRow), { none: "None was slow." });
}

const turnRow = columns("turns", ({ at, node }) => `${at} ${node}`, [
  ["When", "nowrap", ({ at }) => time(at)],
  ["Node", "nowrap", ({ node }) => node],
  ["ms", "number", ({ ms }) => number(ms)],
  ["ms of CPU", "number", ({ cpu_ms: cpu }) => number(cpu)],
  ["Why", "", ({ cause }) => cause],
  ["What ran", "id", ({ is_pause: isPause, stack }) => (isPause ? "–" : stack)],
]);

byId("charts").append(...CHARTS.map(([, chart]) => chart.element));
for (const [, chart] of CHARTS) chart.show([]);
for (const choice of document.querySelectorAll(".ranges a")) if (choice.dataset.range === range) choice.ariaCurrent = "true";
watchBiggest();
watch(showFigures);
