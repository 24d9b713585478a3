/** A user: its state, its connections, its channels. */

import { columns, rowOf } from "./cells.js";
import { endingItem, facts, follow, linkItem } from "./detail.js";
import { byId, fill, number, time } from "./dom.js";
import { shown } from "./names.js";

function show(user) {
  facts([
    ["Connections", number(user.connections)],
    ["Channels", number(user.channels)],
    ["Private messages kept", user.private_log === null ? "unknown with Redis" : number(user.private_log)],
    ["Last active", time(user.last_active)],
  ]);
  fill("connections", user.listed_connections.map((each) => rowOf(byId("connections"), each)), { all: user.connections, none: "Not connected." });
  fill("endings", user.endings.map((ending) => endingItem(ending, true)), { none: "No stream has ended recently." });
  fill("state", Object.entries(user.state).map(([key, value]) => stateRow({ key, value, isPublic: user.public_keys.includes(key) })), { none: "No state." });
  fill("channels", user.listed_channels.map((channel) => linkItem("channel", channel)), { all: user.channels, none: "In no channel." });
}

const stateRow = columns("state", ({ key }) => key, [
  ["Key", "", ({ key }) => shown(key)],
  ["Value", "", ({ value }) => shown(String(value))],
  ["Seen by", "nowrap", ({ isPublic }) => (isPublic ? "everybody" : "the application")],
]);

follow("user", show);
