/** What a program of an application may write, and after each `@ts-expect-error` what it may not; nobody runs it. */

import { Channelstream, Roster, backoff } from "channelstream";
import type { EventOf, Message, StreamEvent } from "channelstream";

interface Note {
  text: string;
}

const stream = new Channelstream<Note>({
  connectUrl: "/connection",
  connectHeaders: async () => ({ "X-CSRFToken": "token" }),
  connectCredentials: "include",
  transports: ["websocket", "sse"],
});

const stop: () => void = stream.on("message", ({ channel, user, message, position }) => {
  const words: string[] = [user, message.text, position];
  console.log(channel?.length, words);
});
stream.on("presence", ({ message, state }) => console.log(message.action === "joined", state?.mood));
stream.on("lost", ({ channels, reason }) => console.log(channels.length, reason === "buffer full"));
stream.on("down", ({ retryMs }) => console.log((retryMs ?? 0) / 1_000));
stream.on("*", (event) => {
  if (event.type === "roster") console.log(stream.roster.users(event.channel).map(({ user }) => user));
  if (event.type === "close") console.log(event.code, event.error);
});
stop();

// @ts-expect-error: there is no such type
stream.on("mesage", () => {});
// @ts-expect-error: nor such a key
stream.on("message", (event) => event.nonsense);
// @ts-expect-error: nor in the payload
stream.on("message", ({ message }) => message.txet);
// @ts-expect-error: another type has this key
stream.on("open", ({ channels }) => channels);
// @ts-expect-error: before its type is known, an event has nothing but that
stream.on("*", (event) => event.channel);
// @ts-expect-error: no such option
new Channelstream({ conectUrl: "/connection" });
// @ts-expect-error: no such transport
new Channelstream({ transports: ["carrier pigeon"] });
// @ts-expect-error: a connection has an id
new Channelstream({ fetchConnection: async () => ({}) });
// @ts-expect-error: it is the stream's to say
stream.position = "p-1";

const given = new Channelstream({
  url: "https://push.example/",
  token: undefined,
  fetchConnection: async ({ expired, since, signal }) => {
    const body = JSON.stringify({ expired, since });
    return (await fetch("/connection", { method: "POST", body, signal })).json();
  },
  fetchInfo: async (channels) => ({ channels }),
});

export async function read(): Promise<StreamEvent<Note>> {
  for await (const event of stream) {
    switch (event.type) {
      case "message":
        return event;
      case "message:edit":
        console.log(event.message?.text, event.edited);
        break;
      case "user_state_change":
        console.log(event.message.changed.map(({ key }) => key));
        break;
      case "recovered":
      case "lost":
      case "unsubscribed":
        console.log(event.channels);
        break;
      case "expiring":
        console.log(event.seconds);
        break;
      case "message:delete":
      case "presence":
        console.log(event.uuid, event.channel);
        break;
      default: {
        const nothing: never = event;
        return nothing;
      }
    }
  }
  throw new Error("closed");
}

const any: Message = { type: "message", uuid: "u", position: "p", channel: null, user: "ann", message: [1], timestamp: "", edited: null };
const opened: EventOf<"open"> = { type: "open", transport: "poll" };
new Roster((channel: string) => console.log(channel)).apply(any);
console.log(given.open().state === "idle", opened.transport, backoff(3, { floorMs: 3_000 }) / 2);

const acting = new Channelstream<Note>({ getToken: async ({ signal }) => `${signal.aborted}` });
export async function act(): Promise<boolean> {
  const { subscribed } = await acting.subscribe(["room.1"], { "room.1": "p-1" });
  const { duplicate } = await acting.publish("room.1", { text: "hi" });
  console.log((await acting.unsubscribe(subscribed)).unsubscribed, await acting.info(["room.1"]));
  return duplicate;
}
