/** Clients with tokens: how they open streams, send commands, and get fresh tokens. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeSocket, answers, define, eventOf, maker, pieces, settled, timers } from "./fakes.js";

const made = maker({ backoffCapMs: 5 });
const open = (options) => made(options).open();

async function greeted(stream, result) {
  const socket = await FakeSocket.next();
  socket.greet(result);
  await settled();
  return socket;
}

test("a token opens a stream without a connection of the application", async () => {
  const stream = open({ token: "t-1" });
  const connection = eventOf(stream, "connection");
  const socket = await greeted(stream);
  assert.equal(socket.url.search, "");
  assert.deepEqual(socket.sent, [{ id: 0, type: "connect", token: "t-1", conn_id: "", since: "" }]);
  assert.equal((await connection).connection.conn_id, "c-1");
  assert.equal(stream.connection.conn_id, "c-1");
  assert.equal(stream.state, "open");
});

test("commands are answered by their ids, in any order", async () => {
  const stream = open({ token: "t-1" });
  const socket = await greeted(stream);
  const subscribed = stream.subscribe(["a"], { a: "p-1" });
  const published = stream.publish("a", { text: "hi" }, "u-1");
  const left = stream.unsubscribe(["a"]);
  const info = stream.info(["a"]);
  assert.deepEqual(socket.sent.slice(1), [
    { id: 1, type: "subscribe", channels: ["a"], since: { a: "p-1" } },
    { id: 2, type: "publish", channel: "a", message: { text: "hi" }, uuid: "u-1" },
    { id: 3, type: "unsubscribe", channels: ["a"] },
    { id: 4, type: "info", channels: ["a"] },
  ]);
  socket.say(
    { type: "reply", id: 4, result: { channels: {} } },
    { type: "reply", id: 2, error: { code: "forbidden", message: "No." } },
    { type: "reply", id: 1, result: { channels: ["a"], subscribed: ["a"] } },
    { type: "reply", id: 3, result: { channels: [], unsubscribed: ["a"] } },
  );
  assert.deepEqual((await subscribed).channels, ["a"]);
  await assert.rejects(published, { message: "No.", code: "forbidden" });
  assert.deepEqual((await left).unsubscribed, ["a"]);
  assert.deepEqual(await info, { channels: {} });
});

test("the roster has no channel that the connection has left, or was taken out of", async () => {
  const stream = open({ token: "t-1" });
  const socket = await greeted(stream);
  stream.roster.load({ channels: { a: { users: ["ann"] }, b: { users: ["ann"] }, c: { users: ["ann"] } } });
  const changed = [];
  stream.on("roster", ({ channel }) => changed.push(channel));
  const left = stream.unsubscribe(["a"]);
  socket.say({ type: "reply", id: 1, result: { channels: ["b", "c"], unsubscribed: ["a"] } });
  await left;
  assert.deepEqual(stream.roster.channels, ["b", "c"]);
  socket.say({ type: "unsubscribed", channels: ["b"], reason: "no longer granted" });
  assert.deepEqual(stream.roster.channels, ["c"]);
  assert.deepEqual(changed, ["a", "b"]);
});

test("a message has an id of its own, where the page is no secure context, too", async () => {
  const stream = open({ token: "t-1" });
  const socket = await greeted(stream);
  stream.publish("a", 1).catch(() => {});
  stream.publish("a", 1).catch(() => {});
  const [first, second] = socket.sent.slice(1).map(({ uuid }) => uuid);
  assert.match(first, /^[0-9a-f]{32}$/);
  assert.notEqual(first, second);
});

test("commands wait for the stream, and are sent again if it breaks before their answers", async () => {
  const stream = open({ token: "t-1" });
  const published = stream.publish("a", 1, "u-1");
  const first = await greeted(stream);
  assert.equal(first.sent[1].uuid, "u-1");
  first.end(1006);
  const second = await greeted(stream);
  assert.deepEqual(second.sent[1], first.sent[1]);
  second.say({ type: "reply", id: 1, result: { uuid: "u-1", duplicate: true } });
  assert.deepEqual(await published, { uuid: "u-1", duplicate: true });
});

test("a command of a listener of the event open is sent once, after those that wait", async () => {
  const stream = open({ token: "t-1" });
  stream.on("open", () => stream.publish("a", 2, "u-2").catch(() => {}));
  stream.publish("a", 1, "u-1").catch(() => {});
  const socket = await greeted(stream);
  stream.publish("a", 3, "u-3").catch(() => {});
  assert.deepEqual(socket.sent.slice(1).flat().map(({ uuid }) => uuid), ["u-1", "u-2", "u-3"]);
});

test("a listener of the event open posts its command for the connection that the first poll has opened", async () => {
  const opened = { type: "reply", id: null, result: { conn_id: "c-1", expires_in: 600 } };
  const answer = answers({ body: [opened, { type: "resumed", position: "p-1", recovered: [""], lost: [] }] });
  const stream = open({ transports: ["poll"], token: "t-1", fetch: answer });
  stream.on("open", () => stream.publish("a", 1).catch(() => {}));
  await eventOf(stream, "open");
  const sent = answer.asked.filter((url) => url.pathname === "/client");
  assert.deepEqual(sent.map((url) => url.search), ["?conn_id=c-1"]);
});

test("a command of a client without a token is refused by the server", async () => {
  const fetch = answers({ status: 401, body: { error: "no token" } });
  const stream = open({ connection: { conn_id: "c-1" }, fetch });
  const waited = assert.rejects(stream.info(["a"]), { message: "no token" });
  (await FakeSocket.next()).resume();
  await waited;
  await assert.rejects(stream.info(["a"]), { message: "no token" });
});

test("a new connection joins the channels of the last one from where it was", async () => {
  const stream = open({ token: "t-1" });
  const first = await greeted(stream);
  stream.subscribe(["a", "b", "c"]);
  stream.unsubscribe(["c"]);
  first.say({ type: "reply", id: 1, result: {} }, { type: "reply", id: 2, result: {} });
  first.say({ type: "message", channel: "a", position: "p-7" });
  first.end(1006);
  const second = await FakeSocket.next();
  const lost = eventOf(stream, "lost");
  second.onopen();
  assert.deepEqual(second.sent[0], { id: 0, type: "connect", token: "t-1", conn_id: "c-1", since: "p-7" });
  second.say({ type: "reply", id: 0, result: { conn_id: "c-2", channels: [], expires_in: 600 } });
  second.resume({ position: "p-7" });
  await settled();
  assert.deepEqual(second.sent[1], { id: 3, type: "subscribe", channels: ["a", "b"], since: { a: "p-7", b: "p-7" } });
  second.say({ type: "reply", id: 3, result: { channels: ["a", "b"], lost: ["b"] } });
  assert.deepEqual((await lost).channels, ["b"]);
});

test("a new connection learns what is lost of channels that it was not in when its stream opened", async () => {
  const stream = open({ token: "t-1" });
  const first = await greeted(stream);
  stream.subscribe(["a"]);
  first.say({ type: "reply", id: 1, result: {} }, { type: "message", channel: "a", position: "p-7" });
  await settled();
  first.end(1006);
  const second = await FakeSocket.next();
  second.onopen();
  second.say({ type: "reply", id: 0, result: { conn_id: "c-2", channels: [], expires_in: 600 } });
  second.resume({ position: "q-1", recovered: [], lost: [""] });
  assert.deepEqual(second.sent[1], { id: 2, type: "subscribe", channels: ["a"], since: { a: "p-7" } });
  second.end(1006);
  const third = await FakeSocket.next();
  third.onopen();
  third.resume({ position: "q-1" });
  assert.deepEqual(third.sent[1], { id: 3, type: "subscribe", channels: ["a"], since: { a: "p-7" } });
});

test("a channel that a fresh token has taken away is not joined again", async () => {
  const stream = open({ token: "t-1" });
  const first = await greeted(stream);
  stream.subscribe(["a", "b"]);
  first.say({ type: "reply", id: 1, result: {} }, { type: "unsubscribed", channels: ["a"], reason: "no longer granted" });
  first.end(1006);
  const second = await greeted(stream);
  assert.deepEqual(second.sent[1], { id: 2, type: "subscribe", channels: ["b"], since: { b: "p-1" } });
});

test("a channel is joined by the command that has waited, and not once more", async () => {
  const stream = open({ token: "t-1" });
  const [channels, since] = [["a"], { a: "p-0" }];
  const joined = stream.subscribe(channels, since);
  channels.push("b");
  since.a = "p-9";
  const first = await greeted(stream);
  first.end(1006);
  const second = await greeted(stream);
  for (const socket of [first, second])
    assert.deepEqual(socket.sent.slice(1), [{ id: 1, type: "subscribe", channels: ["a"], since: { a: "p-0" } }]);
  second.say({ type: "reply", id: 1, error: { code: "forbidden", message: "No." } });
  await assert.rejects(joined);
  second.end(1006);
  const third = await FakeSocket.next();
  third.greet();
  await settled();
  assert.deepEqual(third.sent.slice(1), []);
});

test("a channel is read from where it was left, also by a command that has waited", async () => {
  const stream = open({ token: "t-1" });
  const first = await greeted(stream);
  stream.subscribe(["a", "toString"]);
  first.say({ type: "reply", id: 1, result: {} });
  await settled();
  stream.subscribe(["a", "b"]).catch(() => {});
  first.say({ type: "message", channel: "a", position: "p-7" });
  first.end(1006);
  const second = await FakeSocket.next();
  second.onopen();
  second.say({ type: "reply", id: 0, result: { conn_id: "c-2", channels: [], expires_in: 600 } });
  second.resume({ position: "p-7" });
  await settled();
  assert.deepEqual(second.sent.slice(1), [
    { id: 2, type: "subscribe", channels: ["a", "b"], since: { a: "p-7" } },
    { id: 3, type: "subscribe", channels: ["a", "toString"], since: { a: "p-7", toString: "p-7" } },
  ]);
  second.say({ type: "reply", id: 3, error: { code: "unavailable", message: "Later.", retry_after: 600 } });
  second.say({ type: "message", channel: "d", position: "p-9" });
  await settled();
  stream.subscribe(["a", "toString", "c"], { c: "p-1" }).catch(() => {});
  assert.deepEqual(second.sent[3].since, { a: "p-7", toString: "p-7", c: "p-1" });
});

test("as many channels are joined again in one command as the server takes", async () => {
  const stream = open({ token: "t-1" });
  const first = await greeted(stream);
  stream.subscribe([...Array(101).keys()].map(String));
  first.say({ type: "reply", id: 1, result: {} });
  await settled();
  first.end(1006);
  const second = await greeted(stream);
  const rejoining = second.sent.slice(1).map(({ channels }) => channels.length);
  assert.deepEqual(rejoining, [100, 1]);
});

test("channels are joined again by one command, however often the stream breaks before its answer", async () => {
  const stream = open({ token: "t-1" });
  const first = await greeted(stream);
  stream.subscribe(["a"]);
  first.say({ type: "reply", id: 1, result: {} });
  await settled();
  first.end(1006);
  const joins = [];
  for (let count = 0; count < 3; count++) {
    const socket = await greeted(stream);
    joins.push(socket.sent.slice(1).map(({ channels, since }) => [channels, since]));
    socket.end(1006);
  }
  assert.deepEqual(joins, Array(3).fill([[["a"], { a: "p-1" }]]));
});

test("channels that cannot be joined again now are joined later, and those that are granted beside others that are not", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 0.5);
  const stream = open({ token: "t-1" });
  await settled();
  const first = FakeSocket.opened.shift();
  first.greet();
  await settled();
  stream.subscribe(["a", "b"]);
  stream.subscribe(["c"]);
  first.say({ type: "reply", id: 1, result: {} }, { type: "reply", id: 2, result: {} });
  first.end(1006);
  await settled();
  t.mock.timers.tick(100);
  await settled();
  const second = FakeSocket.opened.shift();
  second.greet();
  await settled();
  const { id, ...asked } = second.sent.at(-1);
  assert.deepEqual(asked.channels, ["a", "b", "c"]);
  second.say({ type: "message", channel: "d", position: "p-9" });
  second.say({ type: "reply", id, error: { code: "unavailable", message: "Later.", retry_after: 2 } });
  stream.unsubscribe(["b"]).catch(() => {});
  await settled();
  const before = second.sent.length;
  t.mock.timers.tick(2_999);
  await settled();
  assert.equal(second.sent.length, before);
  t.mock.timers.tick(1);
  await settled();
  const again = second.sent.at(-1);
  assert.deepEqual(again.since, { a: asked.since.a, c: asked.since.c });
  second.say({ type: "reply", id: again.id, error: { code: "forbidden", message: "No." } });
  await settled();
  const alone = second.sent.slice(-2);
  assert.deepEqual(alone.map(({ channels, since }) => [channels, since]), [
    [["a"], { a: asked.since.a }],
    [["c"], { c: asked.since.c }],
  ]);
  second.say({ type: "reply", id: alone[0].id, error: { code: "forbidden", message: "No." } });
  second.say({ type: "reply", id: alone[1].id, result: { channels: ["c"] } });
  await settled();
  t.mock.timers.tick(60_000);
  await settled();
  assert.equal(second.sent.at(-1), alone[1]);
});

test("a channel that was not joined again is joined from where it was left, after further breaks too", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const stream = open({ token: "t-1" });
  await settled();
  const joins = async (connId) => {
    const socket = FakeSocket.opened.shift();
    socket.onopen();
    socket.say({ type: "reply", id: 0, result: { conn_id: connId, channels: [], expires_in: 600 } });
    socket.resume({ position: stream.position });
    await settled();
    return [socket, socket.sent.at(-1)];
  };
  const breaks = async (socket, position) => {
    socket.say({ type: "message", channel: "d", position });
    socket.end(1006);
    await settled();
    t.mock.timers.tick(100);
    await settled();
  };
  const [first] = await joins("c-1");
  stream.subscribe(["a"]);
  first.say({ type: "reply", id: 1, result: {} });
  await breaks(first, "p-1");
  const [second, { id }] = await joins("c-2");
  second.say({ type: "reply", id, error: { code: "unavailable", message: "Later.", retry_after: 2 } });
  await breaks(second, "p-2");
  const [third, again] = await joins("c-3");
  assert.deepEqual(again.since, { a: "p-1" });
  third.say({ type: "reply", id: again.id, result: {} });
  await settled();
  await breaks(third, "p-3");
  const [, last] = await joins("c-4");
  assert.deepEqual(last.since, { a: "p-3" });
});

test("a fresh token takes the place of one that expires", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let count = 0;
  const stream = open({ getToken: async () => `t-${++count}` });
  await settled();
  const socket = FakeSocket.opened.shift();
  socket.greet({ expires_in: 100 });
  t.mock.timers.tick(74_999);
  await settled();
  assert.equal(count, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(socket.sent[1], { id: 1, type: "refresh", token: "t-2" });
  socket.say({ type: "reply", id: 1, result: { channels: [], expires_in: 60 } });
  t.mock.timers.tick(35_000);
  await settled();
  assert.deepEqual(socket.sent[2], { id: 2, type: "refresh", token: "t-3" });
});

test("only the last time that the server has said counts for the next token", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let count = 0;
  const stream = open({ getToken: () => `t-${++count}` });
  await settled();
  const socket = FakeSocket.opened.shift();
  socket.greet({ expires_in: 100 });
  socket.say({ type: "reply", id: 0, result: { expires_in: 1_000 } });
  const info = stream.info(["a"]);
  socket.say({ type: "reply", id: 1, result: { channels: {} } });
  await info;
  t.mock.timers.tick(974_999);
  await settled();
  assert.equal(count, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(count, 2);
});

test("a token a little longer than the warning is asked for again after half of its time", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let count = 0;
  open({ getToken: () => `t-${++count}` });
  await settled();
  FakeSocket.opened.shift().greet({ expires_in: 26 });
  t.mock.timers.tick(12_999);
  await settled();
  assert.equal(count, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(count, 2);
});

test("a token that expires soon is asked for again after half of its time, and not at once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let count = 0;
  open({ getToken: () => `t-${++count}` });
  await settled();
  const socket = FakeSocket.opened.shift();
  socket.greet({ expires_in: 20 });
  const waits = { 1: 10_000, 2: 1_000 };
  for (const id of [1, 2]) {
    t.mock.timers.tick(waits[id] - 1);
    await settled();
    assert.equal(count, id);
    t.mock.timers.tick(1);
    await settled();
    assert.equal(count, id + 1);
    socket.say({ type: "reply", id, result: { channels: [], expires_in: 0 } });
  }
});

test("after 4003 it comes back at once with a fresh token, to its connection", async () => {
  let count = 0;
  const stream = open({ getToken: () => `t-${++count}` });
  const first = await greeted(stream);
  const down = eventOf(stream, "down");
  first.end(4003, "token expired");
  assert.equal((await down).retryMs, 0);
  const second = await FakeSocket.next();
  second.onopen();
  assert.deepEqual(second.sent[0], { id: 0, type: "connect", token: "t-2", conn_id: "c-1", since: "p-1" });
  second.end(4003);
  const third = await FakeSocket.next();
  third.onopen();
  assert.equal(third.sent[0].token, "t-3");
});

test("without a way to get a fresh one it stops at 4003, and its commands fail", async () => {
  const stream = open({ token: "t-1" });
  const socket = await greeted(stream);
  const closed = eventOf(stream, "close");
  const command = stream.info(["a"]);
  socket.end(4003, "token expired");
  await assert.rejects(command);
  assert.equal((await closed).code, 4001);
});

test("other transports send the token in a header, and commands by requests", async () => {
  const greeting = { type: "reply", id: null, result: { conn_id: "c-1", channels: [], expires_in: 600 } };
  const resumed = { type: "resumed", position: "p-1", recovered: [""], lost: [] };
  const polls = answers({ body: [greeting, resumed] }, { body: new ReadableStream({}) });
  const refused = { status: 401, body: { error: "Unknown connection.", close_code: 4001 } };
  const taken = { type: "unsubscribed", channels: ["old"], reason: "no longer granted" };
  const calls = answers({ body: [taken, { type: "reply", id: 1, result: { channels: ["a"] } }] }, refused);
  const fetch = (url, init) => (url.includes("/client") ? calls : polls)(url, init);
  const stream = open({ transports: ["poll"], token: "t-1", fetch });
  const left = eventOf(stream, "unsubscribed");
  assert.deepEqual(await stream.subscribe(["a"]), { channels: ["a"] });
  assert.deepEqual(await left, taken);
  assert.equal(polls.inits[0].headers.Authorization, "Bearer t-1");
  assert.equal(calls.asked[0].searchParams.get("conn_id"), "c-1");
  assert.deepEqual(JSON.parse(calls.inits[0].body), [{ id: 1, type: "subscribe", channels: ["a"], since: {} }]);
  assert.equal(calls.inits[0].headers.Authorization, "Bearer t-1");
  await assert.rejects(stream.info(["a"]), { message: "Unknown connection." });
});

test("a stream holds a bounded number of commands", async () => {
  const stream = open({ token: "t-1", bufferSize: 1 });
  stream.info(["a"]).catch(() => {});
  await assert.rejects(stream.info(["b"]), RangeError);
});

for (const nothing of ["", undefined, null, { token: "t-1" }])
  test(`an application that gives ${JSON.stringify(nothing)} as a token is asked again later`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    t.mock.method(Math, "random", () => 1);
    const given = [nothing, "t-2", nothing];
    let count = 0;
    open({ getToken: () => given[count++], backoffBaseMs: 50, backoffCapMs: 50 });
    await settled();
    assert.equal(count, 1);
    t.mock.timers.tick(49);
    await settled();
    assert.equal(count, 1);
    t.mock.timers.tick(1);
    await settled();
    const socket = FakeSocket.opened.shift();
    socket.greet({ expires_in: 100 });
    assert.equal(socket.sent[0].token, "t-2");
    t.mock.timers.tick(75_000);
    await settled();
    assert.deepEqual([count, socket.sent.length], [3, 1]);
  });

/**
 * Open a stream by polls that has a connection; `answer` and `fail` end the request that is under way, `sent` are their ids, and
 * `channels` what each command names.
 * `breaks` ends the poll; another one opens, whose connection is `next`.
 */
async function polled(options, next = "c-1") {
  const greeting = (id) => ({ type: "reply", id: null, result: { conn_id: id, channels: [], expires_in: 600 } });
  const resumed = { type: "resumed", position: "p-1", recovered: [""], lost: [] };
  const { body, end: breaks } = pieces();
  const polls = answers({ body: [greeting("c-1"), resumed] }, { body }, { body: [greeting(next), resumed] }, { body: new ReadableStream({}) });
  const asked = [];
  const sent = [];
  const channels = [];
  const fetch = (url, init) => {
    if (!url.includes("/client")) return polls(url, init);
    const commands = JSON.parse(init.body);
    sent.push(commands.map(({ id }) => id));
    channels.push(...commands.map((each) => each.channels));
    return new Promise((resolve, reject) => asked.push({ resolve, reject }));
  };
  const stream = open({ transports: ["poll"], getToken: () => "t-1", fetch, ...options });
  await eventOf(stream, "open");
  await settled();
  const answer = (...items) => asked.shift().resolve(new Response(JSON.stringify(items)));
  const fail = () => asked.shift().reject();
  return { stream, answer, fail, sent, channels, breaks, polls };
}

test("an answer to a command that comes after the end does nothing", async (t) => {
  const pending = timers(t);
  const { stream, answer } = await polled();
  const types = [];
  stream.on("*", ({ type }) => types.push(type));
  const command = stream.info(["a"]);
  stream.close();
  await assert.rejects(command, { message: "closed" });
  answer({ type: "unsubscribed", channels: ["a"] }, { type: "reply", id: 1, result: { conn_id: "c-2", expires_in: 600 } });
  await settled();
  assert.deepEqual([types, pending.size], [["close"], 0]);
});

test("a command by a request that is not answered is rejected after a while", async () => {
  const { stream } = await polled({ silenceMs: 20 });
  await assert.rejects(stream.info(["a"]), { message: "no answer in time" });
});

test("a command whose request is under way is not sent again by the stream that opens next", async () => {
  const { stream, answer, sent, breaks } = await polled();
  const joined = stream.subscribe(["a"]);
  const opened = eventOf(stream, "open");
  breaks();
  await opened;
  await settled();
  const published = stream.publish("a", 1, "u-1");
  answer({ type: "reply", id: 1, result: { channels: ["a"], subscribed: ["a"] } });
  await settled();
  assert.deepEqual(sent, [[1], [2]]);
  answer({ type: "reply", id: 2, result: { uuid: "u-1" } });
  assert.deepEqual(await joined, { channels: ["a"], subscribed: ["a"] });
  assert.deepEqual(await published, { uuid: "u-1" });
});

for (const isAnswered of [true, false])
  test(`a subscribe whose request ${isAnswered ? "was answered" : "failed"} after a new connection had opened is sent to that one`, async () => {
    const { stream, answer, fail, sent, breaks } = await polled({}, "c-2");
    const joined = stream.subscribe(["a"]);
    const published = stream.publish("a", 1, "u-1");
    const opened = eventOf(stream, "open");
    breaks();
    await opened;
    await settled();
    if (isAnswered) answer({ type: "reply", id: 1, result: { channels: ["a"], subscribed: ["a"], lost: ["a"] } });
    else fail();
    await settled();
    assert.deepEqual(sent, [[1], [1, 2]]);
    answer({ type: "reply", id: 1, result: { channels: ["a", "b"] } }, { type: "reply", id: 2, result: { uuid: "u-1" } });
    assert.deepEqual(await joined, { channels: ["a", "b"] });
    assert.deepEqual(await published, { uuid: "u-1" });
  });

for (const [first, then, wanted] of [["subscribe", "unsubscribe", ["b"]], ["unsubscribe", "subscribe", ["a", "b"]]])
  test(`after ${then} of a channel whose ${first} may still arrive another connection has what is wanted`, async () => {
    const { stream, answer, fail, sent, channels, polls } = await polled({}, "c-2");
    const begun = stream.subscribe(["b"]);
    answer({ type: "reply", id: 1, result: { channels: ["b"] } });
    await begun;
    const lost = assert.rejects(stream[first](["a"]), { message: "no answer" });
    fail();
    await lost;
    await settled();
    assert.deepEqual([polls.asked.length, stream.state], [2, "open"]);
    const moved = stream[then](["a"]);
    const opened = eventOf(stream, "open");
    answer({ type: "reply", id: 3, result: { channels: [] } });
    await moved;
    await opened;
    await settled();
    assert.deepEqual(polls.asked.slice(-2).map(({ searchParams }) => searchParams.get("conn_id")), ["", "c-2"]);
    assert.deepEqual([sent.at(-1), channels.at(-1).sort()], [[4], wanted]);
  });

test("a stream stays open whose requests never have an answer", async () => {
  const { stream, fail, sent, polls } = await polled();
  for (const name of ["a", "b", "a"]) {
    const joined = assert.rejects(stream.subscribe([name]), { message: "no answer" });
    fail();
    await joined;
    await settled();
  }
  assert.deepEqual([sent, polls.asked.length, stream.connection.conn_id], [[[1], [2], [3]], 2, "c-1"]);
});

test("a channel that was left by the same request is not joined again by a new connection", async () => {
  const { stream, answer, sent, channels, breaks } = await polled({}, "c-2");
  stream.publish("a", 1, "u-1");
  const commands = [stream.subscribe(["a"]), stream.unsubscribe(["a"]), stream.subscribe(["b", "c"]), stream.unsubscribe(["b"])];
  answer({ type: "reply", id: 1, result: { uuid: "u-1" } });
  await settled();
  const opened = eventOf(stream, "open");
  breaks();
  await opened;
  await settled();
  answer(...[2, 3, 4, 5].map((id) => ({ type: "reply", id, result: { channels: [] } })));
  await settled();
  assert.deepEqual(sent, [[1], [2, 3, 4, 5], [4]]);
  assert.deepEqual(channels.at(-1), ["c"]);
  answer({ type: "reply", id: 4, result: { channels: ["c"] } });
  await Promise.all(commands);
});

test("a WebSocket does not send a command again whose request is under way, and the others after it", async () => {
  const greeting = { type: "reply", id: null, result: { conn_id: "c-1", channels: [], expires_in: 600 } };
  const resumed = { type: "resumed", position: "p-1", recovered: [""], lost: [] };
  const polls = answers({ body: [greeting, resumed] }, { body: new ReadableStream({}) });
  let answer;
  const fetch = (url, init) => (url.includes("/client") ? new Promise((resolve) => (answer = resolve)) : polls(url, init));
  const stream = open({ transports: ["websocket", "poll"], token: "t-1", fetch, upgradeMs: 20 });
  const opened = eventOf(stream, "open");
  (await FakeSocket.next()).end(1006);
  await opened;
  const published = stream.publish("a", 1, "u-1"); // at once, as the WebSocket may be tried again soon
  const socket = await greeted(stream);
  stream.publish("a", 2, "u-2").catch(() => {});
  assert.deepEqual(socket.sent.slice(1), []);
  answer(new Response(JSON.stringify([{ type: "reply", id: 1, result: { uuid: "u-1" } }])));
  assert.deepEqual(await published, { uuid: "u-1" });
  await settled();
  assert.deepEqual(socket.sent.slice(1).map(({ uuid }) => uuid), ["u-2"]);
});

test("a request whose failure says nothing does not hold up the next one", async () => {
  const { stream, sent, fail } = await polled();
  const first = stream.publish("a", 1).catch(({ message }) => message);
  fail();
  assert.equal(await first, "no answer");
  await settled();
  stream.publish("a", 2).catch(() => {});
  assert.deepEqual(sent, [[1], [2]]);
  assert.equal(stream.connection.conn_id, "c-1");
});

test("commands by requests are sent one request after the other, in texts that a server takes", async () => {
  const { stream, answer, sent } = await polled();
  const lengths = [1, 20_000, 20_000, 1];
  const commands = lengths.map((length) => stream.publish("a", "x".repeat(length)).then(({ uuid }) => uuid, ({ message }) => message));
  assert.deepEqual(sent, [[1]]);
  answer({ type: "reply", id: 1, result: { uuid: "u-1" } });
  await settled();
  assert.deepEqual(sent, [[1], [2]]);
  answer({ type: "reply", id: null, error: { code: "invalid", message: "The rest is not read." } });
  await settled();
  assert.deepEqual(sent, [[1], [2], [3, 4]]);
  answer({ type: "reply", id: 3, result: { uuid: "u-3" } }, { type: "reply", id: 4, result: { uuid: "u-4" } });
  assert.deepEqual(await Promise.all(commands), ["u-1", "no answer", "u-3", "u-4"]);
});

test("a command after the end is rejected, and one before the next stream waits for it", async () => {
  const calls = answers({ body: true });
  const stream = open({ getToken: () => "t-1", fetch: calls });
  (await FakeSocket.next()).greet();
  await settled();
  stream.close();
  await assert.rejects(stream.info(["a"]), { message: "closed", code: 1000 });
  stream.open();
  const command = stream.info(["b"]);
  const socket = await FakeSocket.next();
  socket.greet();
  await settled();
  socket.say({ type: "reply", id: socket.sent[1].id, result: { channels: {} } });
  assert.deepEqual(await command, { channels: {} });
  assert.deepEqual(calls.asked.map((url) => url.pathname), ["/disconnect"]);
});

test("commands that have waited are sent in texts that a server takes, in order", async () => {
  const stream = open({ token: "t-1" });
  const commands = [30_000, 2_000, 1_000, 40_000, 10, 20].map((length, index) => stream.publish("a", "x".repeat(length), `u-${index}`));
  const socket = await FakeSocket.next();
  const texts = [];
  const send = socket.send;
  socket.send = (text) => (texts.push(text), send.call(socket, text));
  socket.greet();
  await settled();
  assert.deepEqual(texts.slice(1).map((text) => JSON.parse(text).map(({ id }) => id)), [[1, 2], [3], [4], [5, 6]]);
  socket.say(...commands.map((_, index) => ({ type: "reply", id: index + 1, result: { uuid: `u-${index}` } })));
  assert.deepEqual((await Promise.all(commands)).map(({ uuid }) => uuid), ["u-0", "u-1", "u-2", "u-3", "u-4", "u-5"]);
});

test("where nothing draws random bits a message has the uuid that is passed, or none", async (t) => {
  const stream = open({ token: "t-1" });
  const socket = await greeted(stream);
  define(t, "crypto", undefined);
  for (const uuid of [undefined, "u-1"]) stream.publish("a", 1, uuid).catch(() => {});
  assert.deepEqual(socket.sent.slice(1).map(({ uuid }) => uuid), [undefined, "u-1"]);
});

test("commands go by requests once the WebSocket has been left", async () => {
  const { body, send } = pieces();
  const fetch = answers({ body }, { body: [{ type: "reply", id: 1, result: { uuid: "u-1" } }] });
  const stream = open({ token: "t-1", transports: ["websocket", "sse"], fetch });
  const socket = await greeted(stream);
  socket.end(1006);
  for (let number = 1; number < 3; number++) (await FakeSocket.next()).end(1006);
  const opened = eventOf(stream, "open");
  send(`data:[{"type":"resumed","position":"p-1","recovered":[],"lost":[]}]\n\n`);
  assert.equal((await opened).transport, "sse");
  const published = stream.publish("a", 1, "u-1");
  await settled();
  assert.deepEqual(fetch.asked.map(({ pathname }) => pathname), ["/sse", "/client"]);
  assert.deepEqual(await published, { uuid: "u-1" });
});

test("a command of a stream that a listener has opened again waits for it", async () => {
  const fetch = answers({ body: [] });
  const stream = open({ token: "t-1", fetch });
  await settled();
  stream.on("recovered", () => {
    stream.close();
    stream.open();
    stream.publish("a", 1).catch(() => {});
  });
  FakeSocket.opened.shift().greet();
  await settled();
  assert.deepEqual(fetch.asked.map(({ pathname }) => pathname), ["/disconnect"]);
});

test("commands that come fast are sent together, so that a server takes their texts", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const stream = open({ token: "t-1", bufferSize: 10_000 });
  await settled();
  const socket = FakeSocket.opened.shift();
  socket.greet();
  await settled();
  const lengths = [];
  socket.send = (text) => lengths.push(JSON.parse(text).length);
  const publish = (count) => {
    for (let number = 0; number < count; number++) stream.publish("a", number).catch(() => {});
  };
  const tick = (ms) => {
    t.mock.timers.tick(ms);
    return settled();
  };
  publish(85);
  assert.deepEqual(lengths, Array(80).fill(1));
  await tick(199);
  publish(1);
  assert.equal(lengths.length, 80);
  await tick(1);
  assert.deepEqual(lengths.slice(80), [6]);
  for (let number = 0; number < 100; number++) {
    publish(12);
    await tick(200);
  }
  assert.deepEqual(lengths.slice(81), Array(100).fill(12));
  for (let number = 0; number < 200; number++) await tick(200);
  publish(81);
  assert.deepEqual(lengths.slice(181), Array(80).fill(1));
  socket.end(1006);
  await settled();
  await tick(200);
  assert.equal(lengths.length, 261);
});

test("a WebSocket that opens after the next one has no command sent", async () => {
  const stream = open({ token: "t-1", openTimeoutMs: 1 });
  const late = await FakeSocket.next();
  const newer = await greeted(stream);
  late.onopen();
  stream.info(["a"]).catch(() => {});
  assert.deepEqual([late.sent, newer.sent.length], [[], 2]);
});

test("a command is sent by the stream that opens next, where this one ends in the same text", async () => {
  const calls = answers({ body: true });
  const stream = open({ token: "t-1", fetch: calls });
  const waited = stream.publish("a", 1, "u-1");
  const socket = await FakeSocket.next();
  const ends = { type: "closing", code: 1012, reason: "restart" };
  socket.onopen();
  socket.say({ type: "reply", id: 0, result: { conn_id: "c-1" } }, { type: "resumed", position: "p-1", recovered: [""], lost: [] }, ends);
  const next = await FakeSocket.next();
  next.greet();
  await settled();
  const events = stream[Symbol.asyncIterator]();
  const answered = events.next().then(() => stream.publish("a", 2, "u-2"));
  next.say({ type: "message", channel: "a", position: "p-2" }, ends);
  const last = await FakeSocket.next();
  last.greet();
  await settled();
  assert.deepEqual(last.sent.slice(1).map(({ uuid }) => uuid), ["u-1", "u-2"]);
  last.say({ type: "reply", id: 1, result: { uuid: "u-1" } }, { type: "reply", id: 2, result: { uuid: "u-2" } });
  await Promise.all([waited, answered]);
  assert.deepEqual(calls.asked, []);
});

test("the fetch of a page can be given as it is", async () => {
  const receivers = new Set();
  const answer = answers({ body: [{ type: "reply", id: null, result: { conn_id: "c-1", expires_in: 600 } }, { type: "resumed", position: "p-1", recovered: [""], lost: [] }] });
  const stream = open({
    transports: ["poll"],
    token: "t-1",
    fetch: function (url, init) {
      receivers.add(this);
      return answer(url, init);
    },
  });
  await eventOf(stream, "open");
  stream.info(["a"]).catch(() => {});
  stream.close();
  await settled();
  assert.deepEqual([...receivers], [undefined]);
  assert.deepEqual(new Set(answer.asked.map((url) => url.pathname)), new Set(["/listen", "/client", "/disconnect"]));
});
