/** Listens as its argument says, prints every event as a line of JSON, and reads answers to its questions from stdin. */

import { createInterface } from "node:readline";

const {
  client,
  websocket,
  transports = ["websocket", "sse", "poll"],
  usesTokens,
  commands = [],
  ...options
} = JSON.parse(process.argv[2]);
const { Channelstream } = await import(client);
const { TinyWebSocket } = await import(websocket);

const answers = createInterface(process.stdin)[Symbol.asyncIterator]();
const print = (event) => console.log(JSON.stringify(event));

async function ask(question) {
  print(question);
  return JSON.parse((await answers.next()).value);
}

const stream = new Channelstream({
  fetchConnection: ({ expired, since }) => ask({ type: "ask", expired, since }),
  ...(usesTokens && { getToken: () => ask({ type: "ask-token" }) }),
  fetchInfo: (channels) => ask({ type: "ask-info", channels }),
  WebSocket: TinyWebSocket,
  transports,
  ...options,
});
stream.on("*", (event) => {
  if (event.type !== "roster") return print(event);
  print({ ...event, users: stream.roster.users(event.channel).map(({ user }) => user) });
});
stream.on("message", ({ message }) => message.last && queueMicrotask(() => stream.close()));
stream.on("close", () => process.stdin.destroy());
for (const [name, ...given] of commands) {
  const done = (outcome) => print({ type: "answer", name, ...outcome });
  stream[name](...given).then((result) => done({ result }), ({ code }) => done({ code }));
}
stream.open();
