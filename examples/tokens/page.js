import { Channelstream } from "/channelstream.js";

const find = (selector) => document.querySelector(selector);
const shown = new Set(); // uuids: a message of the history may also arrive by the stream
let stream;
let room;

const say = (text) => (find("#status").textContent = text);

async function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (answer.ok) return answer;
  const { error = `${path} answered ${answer.status}` } = await answer.json().catch(() => ({}));
  // Whom the application no longer knows gets no token: the stream ends.
  throw Object.assign(new Error(error), { retry: answer.status !== 401 });
}

function show({ uuid, user, message, channel, timestamp }) {
  if (shown.has(uuid) || (channel && channel !== room)) return;
  shown.add(uuid);
  const line = document.createElement("li");
  line.textContent = `${user}${channel ? "" : " (in private)"}: ${message.text}`;
  line.dataset.timestamp = timestamp;
  // The history may come after newer lines.
  const newer = [...find("#lines").children].find((other) => other.dataset.timestamp > timestamp);
  find("#lines").insertBefore(line, newer ?? null);
}

/** Show who is in a room, and what was said before. */
async function load(name) {
  const info = stream.info([name]);
  await stream.roster.loadLater(info, [name]);
  (await info).channels[name].history.forEach(show);
}

async function enter(name) {
  const left = room;
  room = name;
  find("#lines").replaceChildren();
  shown.clear();
  if (left) await stream.unsubscribe([left]);
  if (room !== name) return;
  await stream.subscribe([name]);
  await load(name);
}

function listen(url) {
  stream = new Channelstream({ url, getToken: async ({ signal }) => (await post("/token", {}, signal)).text() });
  stream.on("message", show);
  stream.on("roster", () => (find("#here").textContent = stream.roster.users(room).map(({ user }) => user).join(", ")));
  stream.on("open", () => say("Connected."));
  stream.on("down", ({ reason }) => say(`Not connected, trying again: ${reason || "the connection broke"}`));
  const reload = attempt(async () => {
    await post("/token", {}); // With it the application sets what a restarted push server has forgotten of the room.
    await load(room);
  });
  stream.on("lost", (event) => event.channels.includes(room) && reload(event));
  stream.on("close", ({ reason }) => {
    say(`The chat has ended (${reason}). Sign in again.`);
    find("#sign-in").hidden = false;
  });
  stream.open();
}

/** Return a listener that reports an error on the page. */
function attempt(work) {
  return async (event) => {
    event.preventDefault?.();
    try {
      await work(event.target);
      find("#fault").textContent = "";
    } catch (error) {
      find("#fault").textContent = `That did not work: ${error.message}`;
    }
  };
}

find("#sign-in").onsubmit = attempt(async (form) => {
  listen((await (await post("/sign-in", { name: form.name.value })).json()).url);
  form.hidden = true;
  find("#chat").hidden = false;
  room = null;
  await enter(find("#room").value);
});

find("#room").onchange = attempt((select) => enter(select.value));

find("#say").onsubmit = attempt(async (form) => {
  const message = { text: form.text.value };
  await (form.to.value ? post("/whisper", { to: form.to.value, ...message }) : stream.publish(room, message));
  form.reset();
});
