/** A line that moves is alive, however long an item takes: the clock is the test's. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Channelstream } from "../channelstream.js";
import { FakeSocket, answers, pieces, settled } from "./fakes.js";

const LEAD = JSON.stringify([{ type: "resumed", position: "p-1", recovered: [""], lost: [] }]);
const LONG = JSON.stringify([{ type: "message", position: "p-2", message: { text: "x".repeat(1_200) } }]);
const SLICES = [...Array(6)].map((_, at) => LONG.slice(at * 250, (at + 1) * 250));

let stream;
let events;

function open(options) {
  stream = new Channelstream({
    url: "http://push.test/",
    WebSocket: FakeSocket,
    fetch: answers({ body: true }),
    connection: { conn_id: "first" },
    upgradeMs: 10_000_000,
    ...options,
  });
  events = [];
  stream.on("*", ({ type, position, reason, transport }) => events.push(type === "open" ? transport : (position ?? reason ?? type)));
  stream.open();
  events.length = 0;
}

/** Move the clock, second by second. */
async function pass(seconds, step = 1) {
  for (let second = 0; second < seconds; second += step) {
    mock.timers.tick(1_000 * step);
    await settled();
  }
}

/** Send a long item so that each slice takes ten seconds. */
async function trickle(send, slices) {
  for (const slice of slices) {
    send(slice);
    await pass(10);
  }
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_800_000_000_000 }));

afterEach(() => {
  stream.close();
  mock.timers.reset();
  FakeSocket.opened.length = 0;
});

test("an event stream that is receiving a long item is not silent", async () => {
  const { body, send } = pieces();
  open({ transports: ["sse"], fetch: answers({ body }) });
  send(`data:${LEAD}\n\n`);
  await trickle(send, ["data:", ...SLICES, "\n\n"]);
  assert.deepEqual(events, ["sse", "recovered", "p-2"]);
});

test("a long poll that is receiving a long item is not silent", async () => {
  const { body, send, end } = pieces();
  open({ transports: ["poll"], fetch: answers({ body: JSON.parse(LEAD) }, { body }, { body: [] }) });
  await settled();
  await trickle(send, SLICES);
  end();
  await settled();
  assert.deepEqual(events, ["poll", "recovered", "p-2"]);
});

for (const transport of ["sse", "poll"])
  test(`a body of ${transport} that stops within an item is silent`, async () => {
    const { body, send } = pieces();
    const lead = { sse: { body }, poll: { body: JSON.parse(LEAD) } }[transport];
    open({ transports: [transport], fetch: answers(lead, { body }) });
    send(transport === "sse" ? `data:${LEAD}\n\ndata:[` : "[");
    await pass(15);
    assert.deepEqual(events, [transport, "recovered"]);
    await pass(3);
    assert.deepEqual(events.slice(2, 3), ["silent"]);
  });

for (const transport of ["sse", "poll"])
  test(`what ${transport} sends without an end is not kept without a bound`, async () => {
    const { body, send } = pieces();
    open({ transports: [transport], fetch: answers({ body }) });
    const piece = "x".repeat(2 ** 22);
    for (let sent = 0; sent < 4; sent++) send(piece);
    await settled();
    assert.deepEqual([stream.state, events], ["connecting", []]);
    send("x");
    await settled();
    assert.deepEqual(events, ["RangeError: too long"]);
  });

test("a long poll works on a platform without streams", async () => {
  const texts = [LEAD, LONG];
  const fetch = () => (texts.length ? Promise.resolve({ ok: true, text: async () => texts.shift() }) : new Promise(() => {}));
  open({ transports: ["poll"], fetch: (url) => (url.includes("/listen") ? fetch() : Promise.resolve()) });
  await settled();
  assert.deepEqual(events, ["poll", "recovered", "p-2"]);
});

for (const [transport, lead, end] of [["sse", "data:", "\n\n"], ["poll", "", ""]])
  test(`a character that is cut between two pieces of ${transport} arrives whole`, async () => {
    const { body, sendBytes, end: close } = pieces();
    open({ transports: [transport], fetch: answers({ body }, { body: new ReadableStream({}) }) });
    const items = [...JSON.parse(LEAD), { type: "message", position: "\u{1f389}" }];
    const bytes = new TextEncoder().encode(`${lead}${JSON.stringify(items)}${end}`);
    for (const byte of bytes) sendBytes(Uint8Array.of(byte));
    close();
    await settled();
    assert.equal(stream.position, "\u{1f389}");
  });

test("an error page that stalls is silent", async () => {
  const { body, send } = pieces();
  const fetch = answers({ status: 500, body }, { status: 500 });
  open({ transports: ["poll"], fetch });
  send("<html>");
  await pass(15);
  assert.equal(fetch.asked.length, 1);
  await pass(5);
  assert.ok(fetch.asked.length > 1);
});

/** The next socket, once its client has waited as long as it likes. */
async function nextSocket() {
  await settled();
  while (!FakeSocket.opened.length) await pass(1);
  const socket = await FakeSocket.next();
  socket.resume();
  return socket;
}

/** How many seconds a socket may be silent. */
async function patience(socket, step = 1) {
  let seconds = 0;
  for (; !socket.wasClosed; seconds += step) await pass(step, step);
  return seconds;
}

test("the silence limit of WebSockets doubles with each timeout, until an item arrives", async () => {
  open({ transports: ["websocket"] });
  (await nextSocket()).end(1006); // was not silent
  const patiences = [];
  for (let time = 0; time < 3; time++) patiences.push(await patience(await nextSocket()));
  const socket = await nextSocket();
  await pass(100);
  socket.say({ type: "message", position: "p-2" });
  patiences.push(await patience(socket), await patience(await nextSocket()));
  assert.deepEqual(patiences, [17, 33, 65, 17, 33]);
});

test("the silence limit has an upper bound", async () => {
  open({ transports: ["websocket"], silenceMs: 200_000 });
  const patiences = [];
  for (let time = 0; time < 3; time++) patiences.push(await patience(await nextSocket(), 50));
  assert.deepEqual(patiences, [250, 450, 650]);
});

test("after three silent WebSockets the item is received by SSE", async () => {
  const { body, send } = pieces();
  open({ fetch: answers({ body }) });
  for (let time = 0; time < 3; time++) await patience(await nextSocket());
  events.length = 0;
  send(`data:${LEAD}\n\n`);
  await trickle(send, ["data:", ...SLICES, "\n\n"]);
  assert.deepEqual(events, ["sse", "recovered", "p-2"]);
});

test("the best transport is not tried again while an item arrives", async () => {
  const { body, send } = pieces();
  open({ transports: ["websocket", "sse"], fetch: answers({ body }), upgradeMs: 20_000 });
  (await FakeSocket.next()).end(1006);
  await settled();
  send(`data:${LEAD}\n\n`);
  await trickle(send, ["data:", ...SLICES]);
  assert.equal(FakeSocket.opened.length, 0);
  send("\n\n");
  await settled();
  await pass(1);
  assert.deepEqual([events.at(-1), FakeSocket.opened.length], ["p-2", 1]);
});

/** Open a stream that falls back to SSE; `upgrade` returns the next WebSocket, and `waits` has the seconds until each. */
async function fallenBack(t) {
  t.mock.method(Math, "random", () => 1);
  const fetch = async () => {
    const { body, send } = pieces();
    send(`data:${LEAD}\n\n`);
    return new Response(body);
  };
  open({ transports: ["websocket", "sse"], fetch, upgradeMs: 200_000, silenceMs: 10_000_000, backoffCapMs: 1 });
  (await FakeSocket.next()).end(1006);
  const waits = [];
  const upgrade = async () => {
    let seconds = 0;
    await settled();
    assert.equal(stream.transport, "sse");
    for (; !FakeSocket.opened.length; seconds += 10) await pass(10, 10);
    waits.push(seconds);
    return FakeSocket.next();
  };
  return { upgrade, waits };
}

test("the best transport is tried again after twice as long each time, up to ten minutes", async (t) => {
  const { upgrade, waits } = await fallenBack(t);
  for (let time = 0; time < 4; time++) (await upgrade()).end(1006);
  assert.deepEqual(waits, [200, 400, 600, 600]);
});

test("it is tried again sooner once it was stable, and may then fail once", async (t) => {
  const { upgrade, waits } = await fallenBack(t);
  (await upgrade()).end(1006);
  let socket = await upgrade();
  socket.resume();
  await pass(11);
  socket.say();
  for (let time = 0; time < 2; time++) {
    socket.end(1006);
    await settled();
    await pass(1);
    socket = await FakeSocket.next();
  }
  socket.end(1006);
  (await upgrade()).end(1006);
  await upgrade();
  assert.deepEqual(waits, [200, 400, 200, 400]);
});

test("a proxy that repeats its answer does not make the poll spin", async () => {
  const fetch = answers({ body: [{ type: "message", position: "p-5" }] });
  open({ transports: ["poll"], fetch });
  await pass(5);
  assert.ok(fetch.asked.length < 8, `${fetch.asked.length} requests in 5 s`);
});

test("the time of the last byte is public, heartbeats included", async () => {
  const { body, send } = pieces();
  open({ transports: ["sse"], fetch: answers({ body }) });
  send(`data:${LEAD}\n\n`);
  await pass(5);
  send("data:[]\n\n");
  await settled();
  await pass(3);
  assert.equal(Date.now() - stream.receivedAt, 3_000);
});
