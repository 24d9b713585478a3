/** A connection: its transport, its position, its last events, and how its streams ended. */

import { ask } from "./ask.js";
import { endingItem, eventItem, facts, follow, linkItem, name } from "./detail.js";
import { byId, bytes, counted, element, fault, fill, link, measure, number, time } from "./dom.js";
import { shown } from "./names.js";
import { act } from "./server.js";

/** Only those who may change things have it. */
const disconnect = byId("disconnect");

function show(connection) {
  const open = connection.state !== "closed";
  if (disconnect) disconnect.hidden = !open;
  for (const section of document.querySelectorAll(".open-only")) section.hidden = !open;
  fill("endings", connection.endings.map((ending) => endingItem(ending)), { none: "No stream has ended recently." });
  if (!open) return facts([["State", "closed"], ["User", link("user", connection.endings[0].user)]]);
  facts(factsOf(connection));
  fill("channels", connection.listed_channels.map((channel) => linkItem("channel", channel)), { all: connection.channels, none: "In no channel." });
  const events = (connection.events ?? []).map(({ position, channel, json }) => eventItem(position, [`${position} `, channel === null ? "private" : link("channel", channel)], json));
  fill("events", events, { none: connection.events ? "Nothing yet." : "Unknown: the engine cannot be reached." });
}

function factsOf(connection) {
  const expires = connection.expires_in_s === null ? [] : [["Ends unless it reconnects within", measure(connection.expires_in_s, "s")]];
  return [
    ["User", link("user", connection.user)],
    ["State", connection.state],
    ...(connection.node ? [["Node", connection.node]] : []),
    ["Transport", connection.transport || "none yet"],
    ["Protocol", connection.protocol],
    ["Position", element("code", {}, connection.position)],
    ["Position of the server", element("code", {}, connection.server_position)],
    ...clientFacts(connection.client),
    ["Behind", lagOf(connection.lag)],
    ["Written, not yet read by the client", bytes(connection.waiting_bytes)],
    ...expires,
  ];
}

const clientFacts = (client) => (client ? [["Address", shown(client.address)], ["Since", time(client.since)], ["User agent", client.agent ? shown(client.agent) : "none sent"]] : []);

function lagOf(lag) {
  if (lag === null) return "unknown: the engine cannot be reached";
  if (!lag.events && !lag.more) return "nothing";
  const events = lag.more ? `${number(lag.events)} or more events` : counted(lag.events, "event");
  return `${events}, ${bytes(lag.bytes)}, ${measure(number(lag.seconds), "s")}`;
}

disconnect?.addEventListener("click", async () => {
  const lines = ["Its stream is closed with a code after which the client does not reconnect. Its user leaves its channels."];
  if (!(await ask(["Disconnect ", shown(name), "?"], lines, "Disconnect"))) return;
  await act("disconnect", { conn_id: name }).catch((error) => fault(error.message));
  now();
});
const now = follow("connection", show);
