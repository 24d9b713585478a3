/** What is asked of the application, what it may answer, and what becomes of a connection that comes too late. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeSocket, answers, define, eventOf, fakeDocument, maker, settled } from "./fakes.js";

const made = maker({ backoffCapMs: 1 });

const open = (options) => made(options).open();

const NONSENSE = [null, {}, [], "text", { conn_id: "" }, { conn_id: null }, { conn_id: 7 }];

test("an answer without a connection is asked for again, after a longer wait each time", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const list = [...NONSENSE];
  const stream = made({ fetchConnection: async () => (list.length ? list.shift() : { conn_id: "c" }), backoffBaseMs: 1, backoffCapMs: 8 });
  const waits = [];
  stream.on("down", ({ code, reason, retryMs }) => waits.push([code, reason, retryMs]));
  stream.open();
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "c");
  assert.deepEqual(waits, [1, 2, 4, 8, 8, 8, 8].map((ms) => [0, "no connection: it has no conn_id", ms]));
});

test("connectUrl that answers with a page is asked again", async () => {
  const fetch = answers({ body: "<html>" }, { body: {} }, { body: { conn_id: "c" } });
  open({ connectUrl: "http://app.test/connection", fetch });
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "c");
  assert.equal(fetch.asked.length, 3);
});

test("an application whose failure says nothing is asked again", async () => {
  let count = 0;
  open({ fetchConnection: () => (count++ ? { conn_id: "c" } : Promise.reject()) });
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "c");
});

test("a first connection without an id throws", () => {
  for (const connection of [{}, { conn_id: "" }, "text"]) assert.throws(() => made({ connection }), TypeError);
});

test("connectUrl is asked again while it fails, and not after a refusal", async () => {
  const later = { status: 503, headers: { "retry-after": "0" } };
  const fetch = answers({ status: 502 }, later, { status: 408 }, { status: 429 }, { status: 403 });
  const stream = open({ connectUrl: "http://app.test/mine", fetch });
  const { code, reason } = await eventOf(stream, "close");
  assert.deepEqual([code, reason], [4001, "no connection: HTTP 403"]);
  assert.deepEqual(fetch.asked.map(String), Array(5).fill("http://app.test/mine"));
});

for (const [what, page, expected] of [
  ["the page", { location: { href: "https://app.test/chat/room" } }, "https://app.test/connection"],
  ["a page with a base", { document: fakeDocument("https://base.test/app/"), window: new EventTarget() }, "https://base.test/connection"],
])
  test(`connectUrl belongs to ${what}, not to the push server`, async (t) => {
    for (const [name, value] of Object.entries(page)) define(t, name, value);
    const fetch = answers({ body: { conn_id: "c" } });
    open({ connectUrl: "/connection", fetch });
    await FakeSocket.next();
    assert.deepEqual(fetch.asked.map(String), [expected]);
  });

test("url may be relative to the page as well", async (t) => {
  define(t, "location", { href: "https://app.test/chat/room" });
  open({ url: "push", connection: { conn_id: "c" } });
  assert.equal((await FakeSocket.next()).url.href, "wss://app.test/chat/push/ws?conn_id=c&since=");
});

test("without a page both URLs must be absolute", () => {
  assert.throws(() => made({ connectUrl: "/connection" }), { message: "connectUrl must be an absolute URL where there is no page" });
  assert.throws(() => made({ url: "/" }), { message: "url must be an absolute URL where there is no page" });
});

test("each request to connectUrl has fresh headers and the credentials of the application", async () => {
  const fetch = answers({ status: 500 }, { body: { conn_id: "c" } });
  let token = 0;
  const connectHeaders = async () => ({ "X-CSRFToken": `token-${++token}` });
  open({ connectUrl: "http://app.test/", connectHeaders, connectCredentials: "include", fetch });
  await FakeSocket.next();
  const sent = fetch.inits.map(({ method, headers, credentials }) => [method, Object.fromEntries(headers), credentials]);
  const headers = (text) => ({ "content-type": "application/json", "x-csrftoken": text });
  assert.deepEqual(sent, [["POST", headers("token-1"), "include"], ["POST", headers("token-2"), "include"]]);
});

test("headers may be an object or absent", async () => {
  const fetch = answers({ body: { conn_id: "c" } });
  for (const connectHeaders of [undefined, { Authorization: "Bearer t" }]) {
    open({ connectUrl: "http://app.test/", connectHeaders, fetch });
    await FakeSocket.next();
  }
  assert.deepEqual(fetch.inits.map(({ headers }) => headers.get("authorization")), [null, "Bearer t"]);
  assert.deepEqual(fetch.inits.map(({ credentials }) => credentials), [undefined, undefined]);
});

test("the application is asked with the last position, which a new connection does not replace", async () => {
  const fetch = answers({ body: { conn_id: "first" } }, { body: { conn_id: "second", position: "p-99" } });
  open({ connectUrl: "http://app.test/", fetch });
  const socket = await FakeSocket.next();
  socket.resume({ position: "p-3" });
  socket.say({ type: "message", position: "p-7" });
  socket.end(4001);
  const again = await FakeSocket.next();
  assert.deepEqual(fetch.inits.map(({ body }) => JSON.parse(body)), [{ expired: null }, { expired: "first", since: "p-7" }]);
  assert.deepEqual([...again.url.searchParams], [["conn_id", "second"], ["since", "p-7"]]);
});

test("fetchConnection gets the same", async () => {
  const asked = [];
  const fetchConnection = async ({ expired, since, signal }) => {
    asked.push([expired, since, signal instanceof AbortSignal]);
    return { conn_id: `c${asked.length}` };
  };
  const stream = open({ fetchConnection });
  const socket = await FakeSocket.next();
  socket.resume({ position: "p-3" });
  socket.end(4001);
  await FakeSocket.next();
  assert.deepEqual(asked, [[null, undefined, true], ["c1", "p-3", true]]);
  assert.deepEqual(stream.connection, { conn_id: "c2" });
});

test("an application that does not answer is asked again, and a late connection is ended", async () => {
  const asked = [];
  const fetch = answers({ body: true });
  const fetchConnection = ({ signal }) =>
    asked.push(signal) > 1 ? { conn_id: "next" } : new Promise((resolve) => (asked.answer = resolve));
  open({ fetchConnection, silenceMs: 5, fetch });
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "next");
  assert.ok(asked[0].aborted);
  asked.answer({ conn_id: "late" });
  await settled();
  assert.deepEqual(fetch.asked.map(String), ["http://push.test/disconnect?conn_id=late"]);
});

test("it works where AbortSignal.timeout is missing", async (t) => {
  const { timeout } = AbortSignal;
  AbortSignal.timeout = undefined;
  t.after(() => (AbortSignal.timeout = timeout));
  open({ connectUrl: "http://app.test/", fetch: answers({ body: { conn_id: "c" } }) });
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "c");
});

test("opening and closing twenty times at once leaves no connection", async () => {
  let registered = 0;
  const fetch = answers({ body: true });
  const stream = made({ fetchConnection: async () => (await new Promise(setImmediate), { conn_id: `c${++registered}` }), fetch });
  for (let time = 0; time < 20; time++) {
    stream.open();
    stream.close();
  }
  await settled();
  const ended = fetch.asked.map(({ searchParams }) => searchParams.get("conn_id"));
  assert.deepEqual(ended.sort(), Array.from({ length: 20 }, (_, at) => `c${at + 1}`).sort());
  assert.equal(FakeSocket.opened.length, 0);
});

test("a connection that arrives after close() is not used by the next open()", async () => {
  const given = [];
  const fetch = answers({ body: true });
  const stream = made({ fetchConnection: () => new Promise((resolve) => given.push(resolve)), fetch });
  stream.open();
  stream.close();
  stream.open();
  await settled();
  given[1]({ conn_id: "mine" });
  const socket = await FakeSocket.next();
  given[0]({ conn_id: "mine" }); // an application may give the same one again
  await settled();
  assert.deepEqual([socket.url.searchParams.get("conn_id"), fetch.asked.length], ["mine", 0]);
});

test("after a stable stream an application that fails is asked after longer and longer waits as well", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const list = [null, null, null];
  const fetchConnection = async () => (list.length ? list.shift() : { conn_id: "c-2" });
  const stream = open({ connection: { conn_id: "c-1" }, fetchConnection, backoffBaseMs: 1, backoffCapMs: 8 });
  const waits = [];
  stream.on("down", ({ retryMs }) => waits.push(retryMs));
  const socket = await FakeSocket.next();
  const start = Date.now();
  socket.resume();
  t.mock.method(Date, "now", () => start + 10_000);
  socket.say();
  socket.end(4001);
  await FakeSocket.next();
  assert.deepEqual(waits, [0, 1, 2, 4]);
});

test("a stream that is opened again after a refusal does not use the connection that has expired", async () => {
  const asked = [];
  const fetchConnection = async ({ expired }) => {
    if (asked.push(expired) === 1) throw Object.assign(new Error("no"), { retry: false });
    return { conn_id: "c-2" };
  };
  const stream = open({ connection: { conn_id: "c-1" }, fetchConnection });
  const closed = eventOf(stream, "close");
  (await FakeSocket.next()).end(4001);
  await closed;
  assert.equal(stream.open(), stream);
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "c-2");
  assert.deepEqual(asked, ["c-1", "c-1"]);
  assert.equal(stream.open(), stream);
});

test("closing ends the connection, and opening again asks for a new one", async () => {
  const fetch = answers({ body: true });
  const stream = open({ fetch, connection: { conn_id: "first" }, fetchConnection: async () => ({ conn_id: "second" }) });
  (await FakeSocket.next()).resume();
  stream.close();
  assert.equal(fetch.asked[0].pathname + fetch.asked[0].search, "/disconnect?conn_id=first");
  assert.deepEqual(fetch.inits, [{ method: "POST", keepalive: true }]); // a page that is left carries it out as well
  stream.open();
  assert.equal((await FakeSocket.next()).url.searchParams.get("conn_id"), "second");
});
