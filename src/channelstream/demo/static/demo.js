/** The chat: connects the visitor's actions, the application, the push server's stream and the page. */

import { Channelstream } from "../client/channelstream.js";
import { Refused, ask } from "./app.js";
import { Composer } from "./composer.js";
import { byId } from "./element.js";
import { Line } from "./line.js";
import { Model, TYPING_MS } from "./model.js";
import { Typing } from "./typing.js";
import { View } from "./view.js";

const root = document.documentElement.dataset.root;

const ENDED = {
  1000: "You have left the chat in another window, or an admin has disconnected you.",
  4002: "This chat continues in another window.",
};

const model = new Model();
const view = new View(model, { show, edit: (message) => composer.edit(message), remove, loadOlder });
let changes = Promise.resolve();
const typing = new Typing((room) => ask("typing", addressed(room)).catch(() => {}));
const composer = new Composer({ send, amend, typed: () => typing.typed(model.room), lastOwnMessage: () => model.lastOwnMessage() });
const line = new Line(1_000 * byId("chat").dataset.heartbeatS, `${root}/demo/alive`);
let stream = null;
let connection = "";
let isLoadingOlder = false;

// -- connecting ---------------------------------------------------------------------------------------------------

/** Get a connection, under the given name or that of the cookie, which resumes from a position. */
async function connect({ username, since }) {
  const joined = model.channels().filter((channel) => channel.joined).map((channel) => channel.name);
  const answer = await ask("connect", { ...(username && { username }), ...(joined.length && { channels: joined }), since });
  connection = answer.conn_id;
  model.connected(answer);
  byId("welcome").hidden = true;
  byId("chat").hidden = false;
  view.render();
  byId("text").focus();
  return answer;
}

/** Open the stream of a connection. Without a connection, or when it has expired, the client gets one, with retries. */
function listen(first) {
  stop();
  stream = new Channelstream({ url: `${root}/`, connection: first, fetchConnection });
  line.follow(stream);
  stream.on("close", ({ code }) => stream && ended(code));
  stream.on("*", receive);
  stream.open();
}

function stop() {
  const old = stream;
  stream = null;
  old?.close();
}

async function fetchConnection({ since }) {
  try {
    return await connect({ since });
  } catch (refusal) {
    if (refusal.status === 401 || refusal.status === 409) welcome(refusal.status === 409 ? refusal.message : "");
    throw refusal;
  }
}

function welcome(fault) {
  stop();
  byId("chat").hidden = true;
  byId("welcome").hidden = false;
  showText("sign-in-fault", fault);
  byId("name").focus();
}

// -- the stream ---------------------------------------------------------------------------------------------------

function receive(event) {
  model.apply(event);
  if (event.type === "lost") reload(event.channels.filter((channel) => channel !== ""));
  if (event.message?.typing) setTimeout(() => view.renderTyping(), TYPING_MS);
  if (model.room) view.render();
}

/** Load from the application the channels whose events the stream could not replay. */
async function reload(channels) {
  if (!channels.length) return;
  await attempt("send-fault", () => model.load(ask("info", { channels }), (answer) => model.informed(answer)));
}

/** Load what precedes the oldest message; rendered once more, a high window asks for the next ones. */
async function loadOlder() {
  const { room } = model;
  if (isLoadingOlder || !room.hasOlder || !room.oldest) return;
  isLoadingOlder = true;
  const before = room.oldest;
  const asking = ask("older", { channel: room.name, before });
  const isLoaded = await attempt("send-fault", () => model.load(asking, ({ history }) => room.loadOlder(history)));
  isLoadingOlder = false;
  if (isLoaded) view.render();
}

function ended(code) {
  line.ended(ENDED[code] ?? "The server has ended this connection.");
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
  const to = addressed(model.room);
  view.toEnd();
  typing.ended();
  return change({ text, ...to }, "POST");
}

function addressed({ kind, name }) {
  return { [kind === "channel" ? "channel" : "to"]: name };
}

function amend(uuid, text) {
  return change({ uuid, text }, "PATCH");
}

function remove(message) {
  composer.cancel();
  return change({ uuid: message.uuid }, "DELETE");
}

/** Send a change of a message after all earlier ones: requests over several connections may overtake each other. */
function change(body, method) {
  const done = changes.then(() => attempt("send-fault", () => ask("message", body, method)));
  changes = done.catch(() => {});
  return done;
}

function changeMembership() {
  const { joined, name } = model.room;
  const asking = ask(joined ? "unsubscribe" : "subscribe", { conn_id: connection, channels: [name] });
  return attempt("send-fault", () => model.load(asking, (answer) => model.subscribed(answer)));
}

/** Do something that the application may refuse. A refusal is shown in the element `place`. Returns whether it succeeded. */
async function attempt(place, action) {
  try {
    await action();
    showText(place, "");
    return true;
  } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    showText(place, refusal.message);
    return false;
  } finally {
    if (model.room) view.render();
  }
}

function showText(place, text) {
  byId(place).textContent = text;
  byId(place).hidden = !text;
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt("sign-in-fault", () => connect({ username: byId("name").value }).then(listen));
});
byId("membership").addEventListener("click", changeMembership);
byId("status").addEventListener("change", ({ target }) => attempt("send-fault", () => ask("state", { status: target.value })));
byId("note-action").addEventListener("click", () => listen());
byId("leave").addEventListener("click", () => {
  stop();
  attempt("send-fault", () => ask("leave", {})).then(() => location.reload());
});
byId("people-toggle").addEventListener("click", ({ target }) => {
  target.ariaExpanded = String(byId("people").classList.toggle("open"));
});

if (byId("welcome").dataset.visitor) listen();
else welcome("");
