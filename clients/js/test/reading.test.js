/** Who receives what: listeners, iterations and the timers that are left. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeSocket, answers, eventOf, maker, settled, timers } from "./fakes.js";

const made = maker({ connection: { conn_id: "first" }, backoffCapMs: 5 });
const open = (options) => made(options).open();

const item = (position, channel = "a") => ({ type: "message", channel, position });
const places = (results) => results.map(({ value, done }) => (done ? true : value.position));

test("an error of a listener does not affect the other listeners", async (t) => {
  const stream = open();
  const faults = [];
  t.mock.method(globalThis, "queueMicrotask", (report) => {
    try {
      report();
    } catch (fault) {
      faults.push(fault.message);
    }
  });
  stream.on("message", () => {
    throw new Error("the application's");
  });
  const message = eventOf(stream, "message");
  (await FakeSocket.next()).say({ type: "message", position: "p-1" });
  await message;
  assert.deepEqual(faults, ["the application's"]);
});

test("a listener that is removed during dispatch does not get the event, one that is added gets the next", async () => {
  const stream = open();
  const got = [];
  stream.on("message", () => {
    remove();
    stream.on("message", () => got.push("added"));
  });
  const remove = stream.on("message", () => got.push("removed"));
  const socket = await FakeSocket.next();
  socket.say(item("p-1"));
  assert.deepEqual(got, []);
  socket.say(item("p-2"));
  assert.deepEqual(got, ["added"]);
});

test("an iteration ends with the stream, by an error unless the application wanted it", async () => {
  const stream = open();
  const iterator = stream[Symbol.asyncIterator]();
  const waiting = [iterator.next(), iterator.next()];
  (await FakeSocket.next()).end(4002, "replaced");
  await assert.rejects(waiting[0], { code: 4002, message: "replaced" });
  assert.deepEqual(places([await waiting[1], await iterator.next()]), [true, true]);
  await assert.rejects(stream[Symbol.asyncIterator]().next(), { code: 4002 });
});

test("items from before close() are still read, by two independent iterations", async () => {
  const stream = open();
  const [one, two] = [stream[Symbol.asyncIterator](), stream[Symbol.asyncIterator]()];
  const first = [one.next(), two.next()];
  const socket = await FakeSocket.next();
  socket.say(item("p-1"), item("p-2"));
  stream.close();
  assert.deepEqual(places(await Promise.all(first)), ["p-1", "p-1"]);
  assert.deepEqual(places([await one.next(), await one.next(), await two.next(), await two.next()]), ["p-2", true, "p-2", true]);
});

test("items go to waiting calls of next() in their order", async () => {
  const iterator = open()[Symbol.asyncIterator]();
  const asked = [iterator.next(), iterator.next(), iterator.next()];
  (await FakeSocket.next()).say(item("p-1"), item("p-2"), item("p-3"));
  assert.deepEqual(places(await Promise.all(asked)), ["p-1", "p-2", "p-3"]);
});

test("return() ends an iteration whose next() still waits", async () => {
  const stream = open();
  const iterator = stream[Symbol.asyncIterator]();
  const waiting = iterator.next();
  const socket = await FakeSocket.next();
  assert.deepEqual(await iterator.return("mine"), { value: "mine", done: true });
  assert.deepEqual(await waiting, { value: undefined, done: true });
  socket.say(item("p-1"));
  assert.deepEqual(await iterator.next(), { value: undefined, done: true });
  assert.equal(stream.state, "connecting");
});

test("break leaves the loop and the stream continues", async () => {
  const stream = open();
  const socket = FakeSocket.next().then((socket) => socket.say(item("p-1")));
  for await (const { position } of stream[Symbol.asyncIterator]()) {
    assert.equal(position, "p-1");
    break;
  }
  await socket;
  assert.equal(stream.state, "connecting");
});

test("a slow reader receives `lost` for items that did not fit into its buffer", async () => {
  const iterator = open({ bufferSize: 3 })[Symbol.asyncIterator]();
  const first = iterator.next();
  const socket = await FakeSocket.next();
  for (const [at, channel] of ["w", null, "a", "b", "a", "c"].entries()) socket.say(item(`p-${at}`, channel));
  assert.equal((await first).value.position, "p-0");
  assert.deepEqual((await iterator.next()).value, { type: "lost", channels: ["", "a", "b"], reason: "buffer full" });
  assert.deepEqual(places([await iterator.next(), await iterator.next()]), ["p-4", "p-5"]);
});

test("a full buffer loses nothing when the stream is closed", async () => {
  const stream = open({ bufferSize: 2 });
  const iterator = stream[Symbol.asyncIterator]();
  const first = iterator.next();
  (await FakeSocket.next()).say(item("p-1"), item("p-2"), item("p-3"));
  stream.close();
  const rest = [await first, await iterator.next(), await iterator.next(), await iterator.next()];
  assert.deepEqual(places(rest), ["p-1", "p-2", "p-3", true]);
});

const UP = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
const LOSS = { type: "resumed", position: "p-1", recovered: [], lost: ["a"] };
const never = () => new Promise(() => {});

/** Ways to come into a state, each with an event or a moment at which the stream is closed. */
const MOMENTS = {
  "while the application is asked": (stream) => stream({ connection: undefined, fetchConnection: never }),
  "while a transport opens": (stream) => stream({}),
  "by a listener, when a lesser transport opens": async (start) => {
    const stream = start({ transports: ["sse", "poll"], fetch: answers({ status: 404 }, UP) });
    stream.on("open", () => stream.close());
    await eventOf(stream, "close");
  },
  "on a lesser transport": (stream) => eventOf(stream({ transports: ["sse", "poll"], fetch: answers({ status: 404 }, UP) }), "open"),
  "while it waits to come back": async (stream) => {
    const waiting = stream({ backoffBaseMs: 60_000, backoffCapMs: 60_000 });
    const down = eventOf(waiting, "down");
    (await FakeSocket.next()).end(1006);
    await down;
  },
  "between two polls": async (stream) => eventOf(stream({ transports: ["poll"], fetch: answers(UP) }), "open"),
  "while /info is asked for": async (stream) => {
    stream({ fetchInfo: never });
    (await FakeSocket.next()).say(LOSS);
  },
  "while it waits to ask for /info again": async (stream) => {
    stream({ fetchInfo: () => Promise.reject(new Error("no")) });
    (await FakeSocket.next()).say(LOSS);
  },
};

for (const [moment, reach] of Object.entries(MOMENTS))
  test(`closed ${moment}, it leaves no timer`, async (t) => {
    t.mock.method(Math, "random", () => 1);
    const pending = timers(t);
    let stream;
    await reach((options) => (stream = open(options)));
    await settled();
    stream.close();
    await settled();
    assert.equal(pending.size, 0);
  });

test("after a second loss /info is asked for when the first answer is there, after a third at once", async () => {
  const asked = [];
  let answer;
  open({ fetchInfo: (names) => new Promise((resolve) => (asked.push(names), (answer = resolve))) });
  const socket = await FakeSocket.next();
  socket.resume({ lost: ["a"] });
  socket.resume({ position: "p-2", lost: ["b"] });
  await settled();
  assert.deepEqual(asked, [["a"]]);
  answer({ channels: {} });
  await settled();
  assert.deepEqual(asked, [["a"], ["b"]]);
  answer({ channels: {} });
  await settled();
  socket.resume({ position: "p-3", lost: ["c"] });
  await settled();
  assert.deepEqual(asked, [["a"], ["b"], ["c"]]);
});

test("a stream that a listener closes at a second loss does not ask for /info again", async () => {
  const asked = [];
  const stream = open({ fetchInfo: (names) => new Promise(() => asked.push(names)) });
  const socket = await FakeSocket.next();
  socket.resume({ lost: ["a"] });
  stream.on("lost", () => stream.close());
  socket.resume({ position: "p-2", lost: ["a"] });
  await settled();
  assert.deepEqual(asked, [["a"]]);
});

test("a listener that keeps the stream's position, or opens it again, has the event behind it", async () => {
  const asked = [];
  const fetchConnection = ({ since }) => (asked.push(since), { conn_id: "next" });
  const stream = open({ fetchConnection });
  const kept = [];
  stream.on("message", () => {
    kept.push(stream.position);
    if (kept.length < 2) return;
    stream.close();
    stream.open();
  });
  const socket = await FakeSocket.next();
  socket.resume({ position: "p-1" });
  socket.say(item("p-2"), item("p-3"), item("p-4"));
  assert.equal((await FakeSocket.next()).url.searchParams.get("since"), "p-3");
  assert.deepEqual([kept, asked], [["p-2", "p-3"], ["p-3"]]);
});
