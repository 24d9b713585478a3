/** The trace page: the notes of a trace, live, newest first. */

import { columns } from "./cells.js";
import { byId, counted, element, fault, fill, link, measure, number, time } from "./dom.js";
import { shown } from "./names.js";
import { watch } from "./server.js";

/** Notes that the page keeps; an older one is dropped. */
const NOTES = 100;
/** Connections of each outcome that are named at once; the others are folded. */
const NAMED = 3;
const DELIVERED = "delivered";
const moment = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** The rows by their keys, newest first. A row never changes, so what is unfolded in it stays so. */
let rows = new Map();
/** Makes the row of a note; where no trace is shown, there is no table. */
let noteRow = null;
let waiting = 0;
let paused = false;
/** Who has asked for payloads, and when; null if nobody has. */
let asked = null;

function receive(answer) {
  const fresh = answer.notes.map((note) => [`${note.nodes} ${note.number} ${note.at_s}`, note]).filter(([key]) => !rows.has(key));
  asked = answer.asked;
  const made = fresh.reverse().map(([key, note]) => [key, noteRow({ key, ...note })]);
  rows = new Map([...made, ...rows].slice(0, NOTES));
  waiting += made.length;
  showState(answer);
  if (!paused) showRows();
  showPause();
}

function showRows() {
  waiting = 0;
  fill("notes", [...rows.values()], { none: "No notes yet." });
}

function showPause() {
  byId("pause").textContent = paused ? `Resume${waiting ? ` (${number(waiting)} new)` : ""}` : "Pause";
}

function showState({ seconds_left: left, noted, nodes, connections, failure }) {
  byId("state").textContent = `${left ? `${measure(number(left), "s")} left` : "Not tracing"}, ${counted(noted, "note")}${nodes.length > 1 ? ` at ${number(nodes.length)} nodes` : ""}`;
  if (byId("stop")) byId("stop").hidden = !left;
  byId("asked").hidden = !asked;
  byId("asked").replaceChildren(...payloadMark());
  const untraced = nodes.filter((node) => node.failure || (left && !node.seconds_left));
  fault(failure && `The other nodes are unknown, so these notes are those of one node. ${failure}`);
  byId("untraced").replaceChildren(...untraced.map((node) => element("li", {}, `${node.label} does not trace. ${node.failure || "It may have started later: start the trace again."}`)));
  byId("connections-count").textContent = connections.length ? `Connections now: ${number(connections.length)}${connections.length < 50 ? "" : " or more"}` : "No connection now";
  byId("connections").replaceChildren(...connections.map(connectionItem));
}

function connectionItem({ conn_id: id, user, state, channels, more_channels: more, node }) {
  const links = channels.flatMap((name) => [" ", link("channel", name)]);
  return element("li", {}, link("user", user), " ", link("connection", id), ` is ${state}${node && ` at ${node}`}; in`, ...(links.length ? links : [" no channel"]), more ? ` and ${number(more)} more` : "");
}

function timeOf({ at_s: at }) {
  const date = new Date(1000 * at);
  return element("time", { dateTime: date.toISOString(), title: day.format(date) }, moment.format(date));
}

function whatOf({ fact, nodes }) {
  const where = nodes.filter(Boolean);
  return element("div", {}, element("span", { className: "nowrap" }, fact.what), ...(where.length ? [element("div", { className: "muted" }, `at ${where.join(", ")}`)] : []));
}

/** Whose request it is that payloads are shown. */
const payloadMark = () => (asked ? ["With payload, started by ", shown(asked.by), ` at ${time(new Date(1000 * asked.at_s).toISOString())}`] : []);

function payloadOf(payload, size) {
  const cut = new TextEncoder().encode(payload).length < size ? [element("span", { className: "muted" }, ` The rest of the ${number(size)} bytes is cut off.`)] : [];
  return element("div", {}, element("div", { className: "payload", tabIndex: 0, role: "group", ariaLabel: "Payload" }, element("code", {}, shown(payload))), ...cut, element("div", { className: "payload-mark" }, ...payloadMark()));
}

function eventOf({ type, channel, by, uuid, size, payload }) {
  return [
    type ?? "",
    ...(channel === null ? [] : [" in ", link("channel", channel)]),
    ...(by === null ? [] : [" by ", link("user", by)]),
    size === null ? "" : `, ${counted(size, "byte")}`,
    ...(uuid === null ? [] : [element("div", { className: "muted" }, element("code", {}, uuid))]),
    ...(payload === null ? [] : [payloadOf(payload, size)]),
  ];
}

/** Who did not receive the event and why, then how many did; these are named when one unfolds them. */
function outcomeOf({ user, conn_id: id, text, outcomes, counts }) {
  const fates = Object.entries(counts).filter(([fate]) => fate !== DELIVERED);
  const named = (wanted) => outcomes.filter(({ fate }) => fate === wanted);
  return [
    ...(id === null ? [] : [link("user", user), " ", link("connection", id), " "]),
    text,
    ...fates.flatMap(([fate, count]) => undelivered(fate, named(fate), count)),
    ...(counts[DELIVERED] ? [folded(`${number(counts[DELIVERED])} × ${DELIVERED}`, named(DELIVERED), counts[DELIVERED])] : []),
  ];
}

function undelivered(fate, outcomes, count) {
  const shown = outcomes.filter(({ user, conn_id: id }) => user !== null || id !== null);
  const more = count - NAMED;
  return [
    element("div", { className: "undelivered" }, `${number(count)} × ${fate}`),
    ...(shown.length ? [list(shown.slice(0, NAMED))] : []),
    ...(shown.length && more > 0 ? [folded(`${number(more)} more`, shown.slice(NAMED), more)] : []),
  ];
}

/** A list that is made when it is unfolded. */
function folded(title, outcomes, all) {
  const details = element("details", {}, element("summary", {}, title));
  const unfold = () => {
    if (outcomes.length) details.append(list(outcomes));
    if (outcomes.length < all) details.append(element("div", { className: "muted" }, `${number(all - outcomes.length)} are only counted.`));
  };
  details.addEventListener("toggle", unfold, { once: true });
  return details;
}

const list = (outcomes) => element("ul", {}, ...outcomes.map(outcomeItem));

function outcomeItem({ user, conn_id: id, wait_s: wait }) {
  const who = [...(user === null ? [] : [link("user", user), " "]), ...(id === null ? [] : [link("connection", id), " "])];
  return element("li", {}, ...who, ...(wait === null ? [] : [element("span", { className: "muted" }, `${measure(number(wait), "s")} left`)]));
}

for (const name of document.querySelectorAll("bdi")) name.replaceWith(shown(name.textContent));
if (byId("trace")) {
  noteRow = columns("notes", ({ key }) => key, [
    ["When", "nowrap", timeOf],
    ["What", "", whatOf],
    ["Event", "", ({ fact }) => element("div", {}, ...eventOf(fact))],
    ["Outcome", "", ({ fact }) => element("div", {}, ...outcomeOf(fact))],
  ]);
  byId("pause").addEventListener("click", () => {
    paused = !paused;
    if (!paused) showRows();
    showPause();
  });
  watch(receive, `/trace/live${location.search}`);
}
