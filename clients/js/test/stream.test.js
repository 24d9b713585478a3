/** When the client comes back, when it asks for a connection, and when it stops. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { backoff } from "../channelstream.js";
import { FakeSocket, answers, eventOf, maker, pieces, settled } from "./fakes.js";

const made = maker({ connection: { conn_id: "first" }, backoffCapMs: 5 });
const open = (options) => made(options).open();

test("waits double up to the cap, with full jitter", () => {
  const steps = [0, 1, 2, 9, 2_000].map((attempt) => backoff(attempt, { random: () => 1 }));
  assert.deepEqual(steps, [500, 1_000, 2_000, 30_000, 30_000]);
  assert.equal(backoff(3, { random: () => 0 }), 0);
  assert.equal(backoff(3, { capMs: 0, random: () => 1 }), 0);
});

test("a stream that is opened twice is one", async () => {
  const stream = open();
  stream.open();
  await FakeSocket.next();
  await settled();
  assert.equal(FakeSocket.opened.length, 0);
});

test("its state is that of its line", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const stream = made();
  const states = [stream.state];
  const transports = [];
  stream.open();
  states.push(stream.state);
  const socket = await FakeSocket.next();
  socket.resume();
  states.push(stream.state);
  transports.push(stream.transport);
  const down = eventOf(stream, "down");
  socket.end(1006);
  await down;
  states.push(stream.state);
  transports.push(stream.transport);
  await FakeSocket.next();
  states.push(stream.state);
  assert.deepEqual(states, ["idle", "connecting", "open", "waiting", "connecting"]);
  assert.deepEqual(transports, ["websocket", null]);
});

test("a stream that is opened again begins with the best transport", async () => {
  const opened = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
  const stream = open({ transports: ["websocket", "poll"], upgradeMs: 60_000, fetch: answers(opened), fetchConnection: () => ({ conn_id: "c" }) });
  (await FakeSocket.next()).end(1006);
  await eventOf(stream, "open");
  stream.close();
  stream.open();
  (await FakeSocket.next()).resume();
  assert.equal(stream.transport, "websocket");
});

for (const [who, warns] of [["nobody", true], ["a listener", false], ["a listener to all", false], ["an iteration", false]])
  test(`the console warns of an end that ${who} sees: ${warns}`, async (t) => {
    const warn = t.mock.method(console, "warn", () => {});
    const stream = open();
    const read = who === "an iteration" && assert.rejects(stream[Symbol.asyncIterator]().next());
    if (who.startsWith("a listener")) stream.on(who === "a listener" ? "close" : "*", () => {});
    (await FakeSocket.next()).end(1008, "This origin may not open streams.");
    await read;
    await settled();
    const lines = warn.mock.calls.map((call) => call.arguments);
    assert.deepEqual(lines, warns ? [["channelstream: This origin may not open streams. (1008)"]] : []);
    stream.open().close();
    assert.equal(warn.mock.callCount(), lines.length);
  });

for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 4002])
  test(`after ${code} it stops`, async () => {
    const stream = open();
    const socket = await FakeSocket.next();
    socket.resume();
    const closed = eventOf(stream, "close");
    socket.end(code, "why");
    assert.deepEqual({ ...(await closed), error: undefined }, { type: "close", code, reason: "why", error: undefined });
    assert.equal(stream.state, "closed");
    assert.equal(FakeSocket.opened.length, 0);
  });

for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4008])
  test(`after ${code} it comes back from where it was`, async () => {
    const stream = open({ spreadMs: 5 });
    const socket = await FakeSocket.next();
    socket.resume();
    socket.say({ type: "message", position: "p-7" });
    const down = eventOf(stream, "down");
    socket.end(code);
    const { retryMs } = await down;
    const again = await FakeSocket.next();
    assert.equal(again.url.searchParams.get("since"), "p-7");
    assert.equal(again.url.searchParams.get("conn_id"), "first");
    if (code === 4008) assert.equal(retryMs, 0);
  });

test("a second 4008 after a stable stream has not to wait", async (t) => {
  let now = 1_000_000;
  t.mock.method(Date, "now", () => now);
  const stream = open();
  for (let time = 0; time < 2; time++) {
    const socket = await FakeSocket.next();
    socket.resume();
    now += 10_000;
    socket.say();
    const down = eventOf(stream, "down");
    socket.end(4008);
    assert.equal((await down).retryMs, 0);
  }
});

test("a heartbeat may come before everything else", async () => {
  const stream = open();
  const socket = await FakeSocket.next();
  socket.say();
  socket.resume();
  assert.deepEqual([stream.state, FakeSocket.opened.length], ["open", 0]);
});

test("a stream reads from the position of its first connection", async () => {
  open({ connection: { conn_id: "c", position: "p-5" } });
  assert.equal((await FakeSocket.next()).url.searchParams.get("since"), "p-5");
});

test("a second 4008 in a row has to wait", async () => {
  const stream = open();
  for (const hurried of [true, false]) {
    const socket = await FakeSocket.next();
    socket.resume();
    const down = eventOf(stream, "down");
    socket.end(4008);
    assert.equal((await down).retryMs === 0, hurried);
  }
});

for (const transport of ["websocket", "poll"])
  test(`a planned restart after failures is no failure, once, by ${transport}`, async (t) => {
    t.mock.method(Math, "random", () => 1);
    const closing = { status: 503, body: { error: "Restarting.", code: "unavailable", close_code: 1012 } };
    const opened = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
    const fetch = answers({ status: 500 }, { status: 500 }, opened, closing, opened, closing, opened, closing);
    const stream = open({ transports: [transport], backoffBaseMs: 1, backoffCapMs: 1_000, spreadMs: 1, fetch });
    const waits = [];
    stream.on("down", ({ retryMs }) => waits.push(retryMs));
    if (transport === "websocket") {
      for (const opens of [false, false, true, true, true]) {
        const socket = await FakeSocket.next();
        if (opens) socket.resume();
        socket.end(opens ? 1012 : 1006);
      }
    }
    while (waits.length < 5) await eventOf(stream, "down");
    assert.deepEqual(waits, [1, 2, 1, 2, 4]);
  });

test("a refusal by the server itself is not the fault of the transport", async () => {
  const fetch = answers({ status: 503, body: { error: "Full.", close_code: 1013 } });
  const stream = open({ transports: ["sse", "poll"], backoffBaseMs: 1, backoffCapMs: 1, spreadMs: 1, fetch });
  for (let number = 0; number < 3; number++) await eventOf(stream, "down");
  assert.deepEqual(new Set(fetch.asked.map(({ pathname }) => pathname)), new Set(["/sse"]));
});

test("a refusal that says nothing counts by its status", async () => {
  const stream = open({ transports: ["sse"], fetch: answers({ status: 503, body: null }) });
  const { code, reason } = await eventOf(stream, "down");
  assert.deepEqual([code, reason], [1013, "HTTP 503"]);
});

test("a restart before a stream has opened is a failure like others", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const stream = open({ backoffBaseMs: 1, backoffCapMs: 1_000, spreadMs: 1 });
  const waits = [];
  for (const code of [1006, 1006, 1012]) {
    const down = eventOf(stream, "down");
    (await FakeSocket.next()).end(code);
    waits.push((await down).retryMs);
  }
  assert.deepEqual(waits, [1, 2, 4]);
});

test("transports that the platform lacks, or nobody knows, are left out", async () => {
  const opened = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
  const stream = open({ transports: ["websocket", "pigeon", "poll"], WebSocket: null, fetch: answers(opened) });
  assert.equal((await eventOf(stream, "open")).transport, "poll");
  assert.throws(() => made({ WebSocket: null }), { message: "no transport can be used here" });
});

for (const code of [1012, 1013, 4008])
  test(`a transport that brings ${code} works`, async () => {
    const fetch = answers({ status: 500 });
    open({ transports: ["websocket", "poll"], spreadMs: 5, fetch });
    (await FakeSocket.next()).end(code);
    await FakeSocket.next();
    assert.equal(fetch.asked.length, 0);
  });

test("a stream that opens and is silent is not stable", async (t) => {
  let now = 1_000_000;
  t.mock.method(Date, "now", () => now);
  t.mock.method(Math, "random", () => 1);
  const stream = open({ backoffBaseMs: 1, backoffCapMs: 1_000 });
  const waits = [];
  for (const signs of [false, false, true]) {
    const socket = await FakeSocket.next();
    socket.resume();
    now += 20_000;
    if (signs) socket.say();
    const down = eventOf(stream, "down");
    socket.end(1006);
    waits.push((await down).retryMs);
  }
  assert.deepEqual(waits, [1, 2, 1]);
});

test("an unknown connection is replaced, and the stream resumes from its position", async () => {
  const asked = [];
  const fetchConnection = async ({ expired }) => {
    asked.push(expired);
    return { conn_id: "second", position: "p-99" };
  };
  open({ fetchConnection });
  const socket = await FakeSocket.next();
  socket.resume({ position: "p-3" });
  socket.end(4001);
  const again = await FakeSocket.next();
  assert.deepEqual(asked, ["first"]);
  assert.equal(again.url.searchParams.get("conn_id"), "second");
  assert.equal(again.url.searchParams.get("since"), "p-3");
});

test("without a way to get a new connection an unknown one ends the stream", async () => {
  const stream = open();
  const closed = eventOf(stream, "close");
  (await FakeSocket.next()).end(4001);
  assert.equal((await closed).code, 4001);
});

for (const [status, code] of [[401, 4001], [409, 4002]])
  for (const transport of ["sse", "poll"])
    test(`HTTP ${status} of ${transport} means ${code}`, async () => {
      const stream = open({ transports: [transport], fetch: answers({ status }) });
      assert.equal((await eventOf(stream, "close")).code, code);
    });

test("after HTTP 503 it waits at least as long as Retry-After says", async () => {
  const stream = open({ transports: ["poll"], fetch: answers({ status: 503, headers: { "retry-after": "7" } }) });
  // Not up before, so only the wait shows it.
  const { code, retryMs } = await eventOf(stream, "down");
  assert.equal(code, 1013);
  assert.ok(retryMs >= 7_000);
});

for (const after of ["2592000", "9".repeat(400), new Date(Date.now() + 2_592_000_000).toUTCString()])
  test(`five minutes of "Retry-After: ${after.slice(0, 30)}" count`, async (t) => {
    t.mock.method(Math, "random", () => 0);
    const fetch = answers({ status: 503, headers: { "retry-after": after } });
    assert.equal((await eventOf(open({ transports: ["poll"], fetch }), "down")).retryMs, 300_000);
  });

for (const after of ["soon", "-5", new Date(0).toUTCString(), ""])
  test(`"Retry-After: ${after}" costs no wait`, async (t) => {
    t.mock.method(Math, "random", () => 1);
    const fetch = answers({ status: 429, headers: { "retry-after": after } });
    assert.equal((await eventOf(open({ transports: ["poll"], spreadMs: 1_234, fetch }), "down")).retryMs, 1_234);
  });

test("no wait is too long for a timer", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const timer = t.mock.method(globalThis, "setTimeout", () => {});
  await eventOf(open({ transports: ["poll"], backoffBaseMs: 2 ** 40, backoffCapMs: 2 ** 50, fetch: answers({ status: 500 }) }), "down");
  assert.deepEqual(timer.mock.calls.map((call) => call.arguments[1]), [2 ** 31 - 1]);
});

for (const status of [404, 429, 503])
  test(`a long poll that a proxy answers with ${status} is left for the best transport, and that for the poll again`, async () => {
    const polled = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
    const fetch = answers(polled, ...Array(3).fill({ status }), polled);
    const stream = open({ transports: ["websocket", "poll"], spreadMs: 5, upgradeMs: 60_000, fetch });
    (await FakeSocket.next()).end(1006);
    await eventOf(stream, "open");
    (await FakeSocket.next()).resume();
    assert.equal(stream.transport, "websocket");
    // The poll has worked, so it may fail three times.
    assert.deepEqual(fetch.asked.map((url) => url.pathname), Array(4).fill("/listen"));
  });

test("the last item of an event stream is its end", async () => {
  const items = [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }, { type: "closing", code: 1000, reason: "ended" }];
  const { body, send } = pieces();
  const stream = open({ transports: ["sse"], fetch: answers({ body }) });
  const types = [];
  stream.on("*", ({ type }) => types.push(type));
  const closed = eventOf(stream, "close");
  send(`data:${JSON.stringify(items)}\n\n`);
  const { code, reason } = await closed;
  assert.deepEqual([code, reason, types.includes("closing")], [1000, "ended", false]);
});

test("the close code of an error overrides its status", async () => {
  const body = { error: "Disconnected.", code: "connection_ended", close_code: 1000 };
  const stream = open({ transports: ["poll"], fetch: answers({ status: 401, body }) });
  const { code, reason } = await eventOf(stream, "close");
  assert.deepEqual([code, reason], [1000, "Disconnected."]);
});

test("4002 by a stream that timed out here is no reason to stop", async () => {
  const stream = open({ openTimeoutMs: 1 });
  const late = await FakeSocket.next();
  const newer = await FakeSocket.next();
  assert.ok(late.wasClosed);
  newer.resume();
  newer.end(4002);
  (await FakeSocket.next()).resume();
  assert.equal(stream.state, "open");
});

for (const [how, breaks] of [["broke", (socket) => socket.end(1006)], ["sent nothing readable", (socket) => socket.onmessage({ data: "<html>" })]])
  test(`4002 after a stream that ${how} is no reason to stop, once`, async () => {
    const stream = open();
    breaks(await FakeSocket.next());
    const newer = await FakeSocket.next();
    newer.resume();
    newer.end(4002);
    const last = await FakeSocket.next();
    last.resume();
    const closed = eventOf(stream, "close");
    last.end(4002);
    assert.equal((await closed).code, 4002);
  });

test("a WebSocket that does not open may report an error only, as in node 22", async () => {
  const stream = open({ openTimeoutMs: 60_000 });
  const closed = eventOf(stream, "close");
  (await FakeSocket.next()).onerror();
  const next = await FakeSocket.next();
  next.onerror();
  next.end(1008, "the reason");
  assert.deepEqual(await closed, { type: "close", code: 1008, reason: "the reason", error: undefined });
});

test("a silent stream is closed", async () => {
  const stream = open({ silenceMs: 1 });
  const socket = await FakeSocket.next();
  socket.resume();
  assert.equal((await eventOf(stream, "down")).reason, "silent");
  assert.ok(socket.wasClosed);
});

test("unreadable data ends the transport, not the stream", async () => {
  open();
  const socket = await FakeSocket.next();
  socket.resume();
  socket.onmessage({ data: "<html>" });
  await FakeSocket.next();
});

test("a poll that has waited is followed by the next at once, though it had nothing new", async (t) => {
  const resumed = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
  const fetch = answers(resumed, { body: [] });
  const asked = async (url, init) => {
    now += 1_000;
    return fetch(url, init);
  };
  let now = 1_000_000;
  t.mock.method(Date, "now", () => now);
  open({ transports: ["poll"], fetch: asked });
  await settled();
  assert.ok(fetch.asked.length > 2, `only ${fetch.asked.length}`);
});

test("a transport that does not work is left for the next at once, and tried again later", async () => {
  const fetch = answers({ status: 404 }, { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] });
  const stream = open({ transports: ["websocket", "sse", "poll"], fetch, upgradeMs: 20 });
  const opened = eventOf(stream, "open");
  (await FakeSocket.next()).end(1006);
  assert.equal((await opened).transport, "poll");
  assert.deepEqual(fetch.asked.slice(0, 2).map((url) => url.pathname), ["/sse", "/listen"]);
  (await FakeSocket.next()).resume();
  assert.equal(stream.transport, "websocket");
});

test("recovered and lost channels are reported", async () => {
  const stream = open();
  const events = [eventOf(stream, "recovered"), eventOf(stream, "lost")];
  (await FakeSocket.next()).resume({ recovered: ["", "a"], lost: ["b"] });
  const [recovered, lost] = await Promise.all(events);
  assert.deepEqual([recovered.channels, lost.channels], [["", "a"], ["b"]]);
});

test("a loss that a poll repeats is reported once, a new loss again", async () => {
  const poll = (position, lost, text) => ({
    body: [{ type: "resumed", position, recovered: ["b"], lost }, { type: "message", position: text, message: { text } }],
  });
  const list = [poll("p-1", ["a"], "x"), poll("p-1", ["a"], "y"), poll("p-9", ["a"], "z")];
  const stream = open({ transports: ["poll"], fetch: answers(...list) });
  const types = [];
  stream.on("*", ({ type }) => types.push(type));
  while ((await eventOf(stream, "message")).message.text !== "z");
  assert.deepEqual(types.filter((type) => type === "lost" || type === "recovered"), ["recovered", "lost", "lost"]);
});

test("an option that is undefined has its default", async (t) => {
  const opened = { body: [{ type: "resumed", position: "p-1", recovered: [""], lost: [] }] };
  const none = ["upgradeMs", "silenceMs", "openTimeoutMs", "bufferSize", "transports", "spreadMs", "backoffBaseMs"];
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const fetch = answers({ status: 404 }, opened, { body: new ReadableStream({}) });
  const options = Object.fromEntries(none.map((name) => [name, undefined]));
  const stream = open({ ...options, connection: undefined, fetchConnection: () => ({ conn_id: "c" }), fetch });
  await settled();
  FakeSocket.opened.shift().end(1006);
  await eventOf(stream, "open");
  t.mock.timers.tick(14_999);
  await settled();
  assert.deepEqual([stream.transport, FakeSocket.opened.length], ["poll", 0]);
});
