/** The chat: joins what the visitor does, the application, the push server's stream and the page. */

import { Refused, ask } from "./app.js";
import { Backoff } from "./backoff.js";
import { Composer } from "./composer.js";
import { Model } from "./model.js";
import { Stream } from "./stream.js";
import { View, byId } from "./view.js";

const ENDED = {
  1000: "You have left the chat in another window.",
  4002: "This chat goes on in another window.",
};

const model = new Model();
const view = new View(model, { show, edit: (message) => composer.edit(message), remove });
const composer = new Composer({ send, amend, lastOwnMessage: () => model.lastOwnMessage() });
const backoff = new Backoff();
const stream = new Stream({ events, up, down, unknown: connectAgain, ended });
let connection = "";

// -- connecting ---------------------------------------------------------------------------------------------------

/** Sign in under a name, or as the cookie says, and open the stream. */
async function connect(username) {
  const joined = model.channels().filter((channel) => channel.joined).map((channel) => channel.name);
  const answer = await ask("connect", { ...(username && { username }), ...(joined.length && { channels: joined }) });
  backoff.reset();
  connection = answer.conn_id;
  model.connected(answer);
  byId("welcome").hidden = true;
  byId("chat").hidden = false;
  view.render();
  stream.open(connection, answer.position ?? "");
  byId("text").focus();
}

/** The connection has expired or was never made: get a new one, however long it takes. */
async function connectAgain() {
  down();
  try {
    await connect();
  } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    if (refusal.status === 401 || refusal.status === 409) welcome(refusal.status === 409 ? refusal.message : "");
    else setTimeout(connectAgain, backoff.next());
  }
}

function welcome(fault) {
  stream.close();
  byId("chat").hidden = true;
  byId("welcome").hidden = false;
  tell("sign-in-fault", fault);
  byId("name").focus();
}

// -- the stream ---------------------------------------------------------------------------------------------------

function events(list) {
  for (const event of list) {
    model.apply(event);
    if (event.type === "resumed") reload(event.lost.filter((channel) => channel !== ""));
  }
  view.render();
}

/** Ask the application what the stream could not replay. */
async function reload(channels) {
  if (!channels.length) return;
  await attempt("send-fault", async () => model.informed(await ask("info", { channels })));
}

function up() {
  byId("link").dataset.up = "";
  byId("link").textContent = "Live";
  byId("note").hidden = true;
}

function down() {
  delete byId("link").dataset.up;
  byId("link").textContent = "Offline";
  note("The connection dropped. Coming back for what you miss.");
}

function ended(code) {
  down();
  note(ENDED[code] ?? "The server has ended this connection.", true);
}

function note(text, withAction = false) {
  byId("note-text").textContent = text;
  byId("note-action").hidden = !withAction;
  byId("note").hidden = false;
}

// -- what the visitor does ----------------------------------------------------------------------------------------

function show(kind, name) {
  composer.cancel();
  model.show(kind, name);
  byId("people").classList.remove("open");
  byId("people-toggle").ariaExpanded = "false";
  view.render();
  if (kind === "direct") byId("text").focus();
}

function send(text) {
  const { kind, name } = model.room;
  return attempt("send-fault", () => ask("message", { text, [kind === "channel" ? "channel" : "to"]: name }));
}

function amend(uuid, text) {
  return attempt("send-fault", () => ask("message", { uuid, text }, "PATCH"));
}

function remove(message) {
  composer.cancel();
  return attempt("send-fault", () => ask("message", { uuid: message.uuid }, "DELETE"));
}

function changeMembership() {
  const { joined, name } = model.room;
  return attempt("send-fault", async () => {
    const path = joined ? "unsubscribe" : "subscribe";
    model.subscribed(await ask(path, { conn_id: connection, channels: [name] }));
  });
}

/** Do something the application may refuse; its words are shown at `place`. Returns whether it was done. */
async function attempt(place, action) {
  try {
    await action();
    tell(place, "");
    return true;
  } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    tell(place, refusal.message);
    return false;
  } finally {
    if (model.room) view.render();
  }
}

function tell(place, text) {
  byId(place).textContent = text;
  byId(place).hidden = !text;
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt("sign-in-fault", () => connect(byId("name").value));
});
byId("membership").addEventListener("click", changeMembership);
byId("status").addEventListener("change", ({ target }) => attempt("send-fault", () => ask("state", { status: target.value })));
byId("note-action").addEventListener("click", connectAgain);
byId("leave").addEventListener("click", () => {
  stream.close();
  attempt("send-fault", () => ask("leave", {})).then(() => location.reload());
});
byId("people-toggle").addEventListener("click", ({ target }) => {
  target.ariaExpanded = String(byId("people").classList.toggle("open"));
});

if (byId("welcome").dataset.visitor) connectAgain();
else welcome("");
