import { Channelstream } from "/channelstream.js";

const find = (selector) => document.querySelector(selector);
const shown = new Set(); // uuids: a message of the history may also arrive by the stream

const say = (text) => (find("#status").textContent = text);
const complain = (text) => (find("#fault").textContent = text);

// Django requires the token of its cookie. The other frameworks need none: their session cookie is SameSite=Strict.
function csrf() {
  const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1];
  return token ? { "X-CSRFToken": token } : {};
}

async function post(path, body, signal) {
  const headers = { "content-type": "application/json", ...csrf() };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  // A truncated success means that the connection was lost: it fails like a request without an answer.
  const result = await (answer.ok ? answer.json() : answer.json().catch(() => ({})));
  if (answer.ok) return result;
  // Only a refusal of the application is final: its session has ended. After a 5xx the push server may return.
  throw Object.assign(new Error(result.error ?? `${path} answered ${answer.status}`), { retry: answer.status >= 500 });
}

function show({ uuid, user, message }) {
  if (shown.has(uuid)) return;
  shown.add(uuid);
  const line = document.createElement("li");
  line.textContent = `${user}: ${message.text}`;
  find("#lines").append(line);
}

function listen(url) {
  const stream = new Channelstream({
    url,
    fetchConnection: ({ since, signal }) => post("/connection", since ? { since } : {}, signal),
  });
  stream.on("connection", ({ connection }) => connection.history.forEach(show));
  stream.on("message", show);
  stream.on("roster", () => (find("#here").textContent = stream.roster.users("chat").map(({ user }) => user).join(", ")));
  stream.on("open", () => {
    say("Connected.");
    find("#chat").hidden = false;
  });
  stream.on("down", ({ reason }) => say(`Not connected, trying again: ${reason || "the connection broke"}`));
  stream.on("lost", () => say("Connected. Some messages may be missing here."));
  stream.on("close", ({ reason }) => {
    say(`The chat has ended (${reason}). Sign in again.`);
    find("#sign-in").hidden = false;
  });
  stream.open();
}

find("#sign-in").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    const { url } = await post("/sign-in", { name: form.name.value });
    complain("");
    form.hidden = true;
    listen(url);
  } catch (error) {
    complain(`Not signed in: ${error.message}`);
  }
};

find("#say").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    await post("/say", { text: form.text.value });
    complain("");
    form.reset();
  } catch (error) {
    complain(`Not sent: ${error.message}`);
  }
};
