// Nothing here knows channelstream: it is the page of any application that uses Laravel Echo with Pusher.
import Echo from "/echo.js"; // uses the global Pusher

const find = (selector) => document.querySelector(selector);
const present = new Map(); // the names of the members, by id

const complain = (text) => (find("#fault").textContent = text);

async function post(path, body) {
  const headers = { "content-type": "application/json", "x-socket-id": window.echo?.socketId() ?? "" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  // A truncated success means that the connection was lost: it fails like a request without an answer.
  const result = await (answer.ok ? answer.json() : answer.json().catch(() => ({})));
  if (!answer.ok) throw new Error(result.error ?? `${path} answered ${answer.status}`);
  return result;
}

function show({ user, text }) {
  const line = document.createElement("li");
  line.textContent = `${user}: ${text}`;
  find("#lines").append(line);
}

function showPresent() {
  find("#here").textContent = [...present.values()].sort().join(", ");
}

function listen({ key, host, port, tls }) {
  window.echo = new Echo({
    broadcaster: "pusher",
    key,
    cluster: "", // pusher-js wants one, and uses it only for hosts of Pusher
    wsHost: host,
    wsPort: port,
    wssPort: port,
    forceTLS: tls,
    enabledTransports: ["ws", "wss"],
    authEndpoint: "/auth",
  });
  window.echo.connector.pusher.connection.bind("state_change", ({ current }) => {
    find("#status").textContent = current === "connected" ? "Connected." : `Not connected: ${current}`;
  });
  const chat = window.echo.join("chat");
  chat
    .here((members) => {
      present.clear(); // Echo calls this again after each reconnect
      for (const { id, name } of members) present.set(id, name);
      showPresent();
      find("#chat").hidden = false;
    })
    .joining(({ id, name }) => {
      present.set(id, name);
      showPresent();
    })
    .leaving(({ id }) => {
      present.delete(id);
      showPresent();
    })
    .listen(".said", (message) => {
      find("#typing").textContent = "";
      show(message);
    })
    .listenForWhisper("typing", ({ name }) => (find("#typing").textContent = `${name} is typing`))
    .error((error) => complain(`Not in the chat: ${error.error ?? error.status}`));
  return chat;
}

find("#sign-in").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const name = form.name.value;
  try {
    const chat = listen(await post("/sign-in", { name }));
    complain("");
    form.hidden = true;
    find("#say").text.oninput = () => chat.whisper("typing", { name });
    find("#say").onsubmit = (sent) => say(sent, name);
  } catch (error) {
    complain(`Not signed in: ${error.message}`);
  }
};

async function say(event, user) {
  event.preventDefault();
  const form = event.target;
  const text = form.text.value;
  try {
    await post("/say", { text });
    show({ user, text }); // the event leaves this page out
    complain("");
    form.reset();
  } catch (error) {
    complain(`Not sent: ${error.message}`);
  }
}
