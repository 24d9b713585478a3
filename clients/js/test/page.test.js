/** What a page says: that it is left or shown again, and that it has a network again. */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import { FakeSocket, define, eventOf, fakeDocument, maker, settled } from "./fakes.js";

const made = maker({ connection: { conn_id: "first" }, backoffBaseMs: 60_000, backoffCapMs: 60_000 });

/** Open a stream in a page; `tell` dispatches an event of it. */
async function opened(t, options) {
  const [window, document] = [new EventTarget(), fakeDocument("https://app.test/")];
  define(t, "window", window);
  define(t, "document", document);
  t.mock.method(Math, "random", () => 1);
  const stream = made(options).open();
  const socket = await FakeSocket.next();
  socket.resume({ position: "p-7" });
  const tell = (type, hidden = false) => {
    document.hidden = hidden;
    (type === "visibilitychange" ? document : window).dispatchEvent(new Event(type));
  };
  return { stream, socket, tell };
}

test("a page that is left has no stream until it is shown again", async (t) => {
  const { stream, socket, tell } = await opened(t);
  const down = eventOf(stream, "down");
  tell("pagehide");
  assert.deepEqual(await down, { type: "down", code: 0, reason: "asleep", retryMs: null });
  await settled();
  assert.deepEqual([socket.wasClosed, stream.state, FakeSocket.opened.length], [true, "asleep", 0]);
  tell("pageshow");
  assert.equal((await FakeSocket.next()).url.searchParams.get("since"), "p-7");
});

test("a stream that is opened again by a page that was left does not wait until it is shown", async (t) => {
  const { stream, tell } = await opened(t, { fetchConnection: () => ({ conn_id: "second" }) });
  tell("pagehide");
  await settled();
  stream.close();
  stream.open();
  await FakeSocket.next();
});

test("a page that has a network again waits no longer", async (t) => {
  const { stream, socket, tell } = await opened(t);
  const down = eventOf(stream, "down");
  socket.end(1006);
  assert.equal((await down).retryMs, 60_000);
  tell("online");
  await FakeSocket.next();
});

test("another network replaces a stream at once, which may be dead", async (t) => {
  const { socket, tell } = await opened(t);
  tell("online");
  await FakeSocket.next();
  assert.ok(socket.wasClosed);
});

test("a page that becomes visible replaces a stream only if that was silent for long", async (t) => {
  let now = 1_000_000;
  t.mock.method(Date, "now", () => now);
  const { socket, tell } = await opened(t, { silenceMs: 16_000 });
  now += 16_000;
  tell("visibilitychange");
  assert.ok(!socket.wasClosed);
  now += 1;
  tell("visibilitychange", true);
  assert.ok(!socket.wasClosed);
  tell("visibilitychange");
  await FakeSocket.next();
  assert.ok(socket.wasClosed);
});

test("a closed stream is not opened again by its page", async (t) => {
  const { stream, tell } = await opened(t);
  stream.close();
  assert.deepEqual(getEventListeners(window, "online"), []);
  for (const type of ["pagehide", "pageshow", "online", "visibilitychange"]) tell(type);
  await settled();
  assert.deepEqual([stream.state, FakeSocket.opened.length], ["closed", 0]);
});

for (const jumpMs of [-3_600_000, 3_600_000])
  test(`a clock that is set by ${jumpMs} ms does not hide that a stream is silent`, async (t) => {
    let now = 1_000_000_000;
    t.mock.method(Date, "now", () => now);
    t.mock.timers.enable({ apis: ["setInterval"] });
    const { socket } = await opened(t, { silenceMs: 16_000, backoffBaseMs: 0 });
    now += jumpMs;
    t.mock.timers.tick(250);
    await FakeSocket.next();
    assert.ok(socket.wasClosed);
  });
