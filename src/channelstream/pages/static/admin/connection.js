/** A connection: what carries it, how far it has heard, what it heard last, and how its streams ended. */

import { ask } from "./ask.js";
import { endingItem, eventItem, facts, follow, linkItem, name } from "./detail.js";
import { byId, bytes, element, fault, fill, link, number } from "./dom.js";
import { act } from "./server.js";

function show(connection) {
  const open = connection.state !== "closed";
  byId("disconnect").hidden = !open;
  for (const section of document.querySelectorAll(".open-only")) section.hidden = !open;
  fill("endings", connection.endings.map(endingItem), { none: "None has ended lately." });
  if (!open) return facts([["State", "closed"]]);
  facts(factsOf(connection));
  fill("channels", connection.listed_channels.map((channel) => linkItem("channel", channel)), { all: connection.channels, none: "In no channel." });
  const events = connection.events.map(({ position, channel, json }) => eventItem([`${position} `, channel === null ? "private" : link("channel", channel)], json));
  fill("events", events, { none: "Nothing yet." });
}

function factsOf(connection) {
  const expires = connection.expires_in_s === null ? [] : [["Ends unless it comes back in", `${connection.expires_in_s} s`]];
  return [
    ["User", link("user", connection.user)],
    ["State", connection.state],
    ["Transport", connection.transport || "none yet"],
    ["Wire format", connection.dialect],
    ["Has heard up to", element("code", {}, connection.position)],
    ["The server is at", element("code", {}, connection.server_position)],
    ["Waiting to be written", `${number(connection.waiting_events)} events`],
    ["Written, not yet taken", bytes(connection.waiting_bytes)],
    ...expires,
  ];
}

byId("disconnect").addEventListener("click", async () => {
  const lines = ["Its stream ends, its user leaves its channels, and the client is told not to come back."];
  if (!(await ask(`Disconnect ${name}?`, lines, "Disconnect"))) return;
  await act("disconnect", { conn_id: name }).catch((error) => fault(error.message));
  now();
});
const now = follow("connection", show);
