import { Channelstream } from "/channelstream.js";

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

function show(event) {
  const line = document.createElement("li");
  line.textContent = `${event.user}: ${event.message.text}`;
  document.querySelector("#lines").append(line);
}

document.querySelector("#sign-in").onsubmit = async (event) => {
  event.preventDefault();
  const { url } = await post("/sign-in", { name: event.target.name.value });
  event.target.hidden = true;
  const stream = new Channelstream({ url, fetchConnection: ({ since }) => post("/connection", { since }) });
  stream.on("message", show);
  stream.on("open", () => (document.querySelector("#chat").hidden = false));
  stream.open();
};

document.querySelector("#say").onsubmit = async (event) => {
  event.preventDefault();
  await post("/say", { text: event.target.text.value });
  event.target.reset();
};
