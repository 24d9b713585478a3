/** A user: its state, its connections, its channels. */

import { facts, follow, linkItem } from "./detail.js";
import { bytes, cell, element, fill, link, number, time } from "./dom.js";

function show(user) {
  facts([
    ["Connections", number(user.connections)],
    ["Channels", number(user.channels)],
    ["Private messages kept", number(user.private_log)],
    ["Last active", time(user.last_active)],
  ]);
  fill("connections", user.listed_connections.map(connectionRow), { all: user.connections, none: "Not connected." });
  fill("state", Object.entries(user.state).map(([key, value]) => stateRow(key, value, user.public_keys)), { none: "No state." });
  fill("channels", user.listed_channels.map((channel) => linkItem("channel", channel)), { all: user.channels, none: "In no channel." });
}

function connectionRow({ id, state, transport, channels, waiting }) {
  return element(
    "tr",
    {},
    cell("id", link("connection", id)),
    cell("nowrap", state),
    cell("nowrap", transport || "none yet"),
    cell("number", number(channels)),
    cell("number", bytes(waiting)),
  );
}

function stateRow(key, value, publicKeys) {
  return element("tr", {}, cell("", key), cell("", String(value)), cell("nowrap", publicKeys.includes(key) ? "everybody" : "the application"));
}

follow("user", show);
