/** A channel: its users, history, settings, and a form to send a message. */

import { ask } from "./ask.js";
import { rowOf } from "./cells.js";
import { eventItem, facts, follow, linkItem, name } from "./detail.js";
import { byId, fill, link, number, time } from "./dom.js";
import { shown } from "./names.js";
import { Broken, payloadOf } from "./payload.js";
import { act } from "./server.js";

const form = byId("settings");
const fields = [...form.querySelectorAll("[name]")];
let settings = {};
let edited = false;
/** How many connections a message reaches now. */
let receivers = 0;

function show(channel) {
  facts([
    ["Users", number(channel.users)],
    ["Connections", number(channel.connections)],
    ["Kept as history", number(channel.history)],
    ["Kept for resuming", channel.log === null ? "unknown with Redis" : number(channel.log)],
    ["Last active", time(channel.last_active)],
  ]);
  settings = channel.settings;
  receivers = channel.connections;
  // Settings that are being edited are not overwritten.
  if (!edited) showSettings();
  const users = channel.listed_users.map(({ name: user, connections }) => linkItem("user", user, connections > 1 ? ` × ${connections}` : ""));
  fill("users", users, { all: channel.users, none: "Nobody is here." });
  fill("connections", channel.listed_connections.map((each) => rowOf(byId("connections"), each)), { all: channel.connections, none: "No connection." });
  fill("messages", channel.messages.map(messageItem), { all: channel.history, none: historyNote() });
}

const historyNote = () => (settings.store_history ? "No messages yet." : "This channel keeps no history.");

function messageItem({ uuid, at, user, edited: changed, json }) {
  return eventItem(uuid, [`${time(at)} `, link("user", user), changed ? " (edited)" : ""], json);
}

function showSettings() {
  for (const field of fields) {
    if (field.type === "checkbox") field.checked = settings[field.name];
    else field.value = settings[field.name];
  }
}

const valueOf = (field) => (field.type === "checkbox" ? field.checked : Number(field.value));

async function save() {
  const changed = fields.filter((field) => valueOf(field) !== settings[field.name]);
  if (!changed.length) return note("settings", "Nothing has changed.");
  const lines = changed.map((field) => `${field.name}: ${settings[field.name]} → ${valueOf(field)}`);
  if (!(await ask(["Change the settings of ", shown(name), "?"], lines, "Change"))) return;
  const patch = Object.fromEntries(changed.map((field) => [field.name, valueOf(field)]));
  await attempt("settings", "Saved.", () => act("settings", { [name]: patch }));
  edited = false;
  now();
}

async function send() {
  const { user, message: field, as_text: asText } = byId("send").elements;
  note("send", "");
  await attempt("send", "Sent.", async () => {
    const message = payloadOf(field.value, asText.checked);
    if (receivers && !(await ask(["Send to ", shown(name), "?"], [receiversNote(), shown(JSON.stringify(message))], "Send"))) return false;
    await act("message", { channel: name, user: user.value, message });
    field.value = "";
    now();
  });
}

const receiversNote = () => (receivers === 1 ? "One connection receives it at once." : `${number(receivers)} connections receive it at once.`);

/** Do something, and say that it is done, or why it is not. Work that returns false was not confirmed. */
async function attempt(id, done, work) {
  try {
    if ((await work()) !== false) note(id, done);
  } catch (error) {
    note(id, error.message);
    if (error instanceof Broken) showFault(error.index);
  }
}

function showFault(index) {
  const field = byId("send").elements.message;
  field.focus();
  field.setSelectionRange(index, index + 1);
}

function note(id, text) {
  byId(`${id}-note`).textContent = text;
}

form.addEventListener("input", () => {
  edited = true;
  note("settings", "");
});
form.addEventListener("reset", (event) => {
  event.preventDefault();
  edited = false;
  showSettings();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
byId("send")?.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
const now = follow("channel", show);
