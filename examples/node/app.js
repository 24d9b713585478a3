// A small chat in plain node, without a client library: the API is two signed requests.
import { createHash, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { sign } from "./sign.js";

const { CHANNELSTREAM_URL: url = "http://127.0.0.1:8000", CHANNELSTREAM_SECRET: secret = "secret", PORT = 5000 } = process.env;
const FILES = {
  "/": ["../page/index.html", "text/html"],
  "/page.js": ["../page/page.js", "text/javascript"],
  "/channelstream.js": ["../../clients/js/channelstream.js", "text/javascript"],
};
const CHAT = { chat: { notify_presence: true, store_history: true, history_size: 20 } };
const MAX_BODY = 10_000;
const names = new Map(); // by session; a real application keeps them in a store, with an expiry

async function call(path, content) {
  const [method, body] = ["POST", JSON.stringify(content)];
  const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`; // lets the server judge the call before it reads the body
  const headers = { "content-type": "application/json", "content-digest": digest, authorization: sign({ secret, method, target: path, body }) };
  const answer = await fetch(url + path, { method, headers, body }).catch((error) => {
    throw new Error(`the push server cannot be reached: ${error.cause?.message ?? error.message}`);
  });
  if (!answer.ok) throw new Error(`the push server answered ${answer.status} to ${path}: ${await answer.text()}`);
  return answer.json();
}

const CALLS = {
  // since: the last position of a page that lost its connection. Everybody may read the chat, so it may resume there.
  "/connection": async (user, { since }) => {
    const info = { return_public_state: true }; // the page receives the answer
    const made = await call("/connect", { username: user, channels: ["chat"], channel_configs: CHAT, info, since: String(since ?? "") });
    return { ...made, history: made.channels_info.channels.chat.history };
  },
  "/say": (user, { text }) => call("/message", { user, channel: "chat", message: { text } }),
};

async function bodyOf(request) {
  let body = "";
  for await (const piece of request) if ((body += piece).length > MAX_BODY) throw new Error("too long");
  return JSON.parse(body);
}

async function answer(request, response) {
  if (request.method === "GET" && FILES[request.url]) {
    const [file, type] = FILES[request.url];
    return response.setHeader("content-type", type).end(await readFile(new URL(file, import.meta.url)));
  }
  const body = await bodyOf(request);
  if (request.url === "/sign-in") {
    const session = randomUUID();
    names.set(session, String(body.name));
    response.setHeader("set-cookie", `session=${session}; HttpOnly; SameSite=Strict`);
    return response.end(JSON.stringify({ url }));
  }
  const user = names.get(/session=([\w-]+)/.exec(request.headers.cookie)?.[1]);
  if (!user || !CALLS[request.url]) return response.writeHead(user ? 404 : 401).end("{}");
  return response.end(JSON.stringify(await CALLS[request.url](user, body)));
}

createServer((request, response) => {
  answer(request, response).catch((error) => response.writeHead(502).end(JSON.stringify({ error: error.message })));
}).listen(PORT, "127.0.0.1");
