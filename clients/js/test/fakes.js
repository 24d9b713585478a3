/** A fake server: each socket that the client opens receives what the test sends. */

import { afterEach } from "node:test";

import { Channelstream } from "../channelstream.js";

export class FakeSocket {
  static opened = [];
  static #waiting = [];

  /** The next socket that the client opens. */
  static next() {
    const socket = FakeSocket.opened.shift();
    return socket ?? new Promise((resolve) => FakeSocket.#waiting.push(resolve));
  }

  constructor(url) {
    this.url = new URL(url);
    const waiting = FakeSocket.#waiting.shift();
    if (waiting) queueMicrotask(() => waiting(this));
    else FakeSocket.opened.push(this);
  }

  say(...items) {
    this.onmessage({ data: JSON.stringify(items) });
  }

  resume({ position = "p-1", recovered = [""], lost = [] } = {}) {
    this.say({ type: "resumed", position, recovered, lost });
  }

  end(code, reason = "") {
    this.onclose({ code, reason });
  }

  close() {
    this.wasClosed = true;
  }

  sent = [];

  /** The objects of each text that the client sends, a list or one. */
  send(text) {
    this.sent.push(...[JSON.parse(text)].flat());
  }

  /** Open, and answer the token. */
  greet(result = {}) {
    this.onopen();
    const greeting = { conn_id: "c-1", user: "ann", channels: [], expires_in: 600, ...result };
    this.say({ type: "reply", id: 0, result: greeting });
    this.resume();
  }
}

/** Return what makes a client that speaks to `FakeSocket`; after each test it is closed. */
export function maker(defaults) {
  const streams = [];
  afterEach(() => {
    for (const stream of streams.splice(0)) stream.close();
    FakeSocket.opened.length = 0;
  });
  return (options) => {
    const given = { url: "http://push.test/", WebSocket: FakeSocket, fetch: answers({ body: true }), transports: ["websocket"] };
    const stream = new Channelstream({ ...given, ...defaults, ...options });
    streams.push(stream);
    return stream;
  };
}

/** The next event of a type. */
export function eventOf(stream, type) {
  return new Promise((resolve) => {
    const off = stream.on(type, (event) => (off(), resolve(event)));
  });
}

/** A fetch that answers from a list, and then with the last of it; `asked` are the URLs, `inits` what came with them. */
export function answers(...list) {
  const asked = [];
  const inits = [];
  const fetch = async (url, init) => {
    asked.push(new URL(url));
    inits.push(init);
    await new Promise(setImmediate); // an answer takes its time
    const { status = 200, headers = {}, body = [] } = list.length > 1 ? list.shift() : list[0];
    return new Response(body instanceof ReadableStream ? body : JSON.stringify(body), { status, headers });
  };
  return Object.assign(fetch, { asked, inits });
}

/** A body that a test sends piece by piece. */
export function pieces() {
  let sink;
  const body = new ReadableStream({ start: (controller) => (sink = controller) });
  const sendBytes = (bytes) => sink.enqueue(bytes);
  return { body, sendBytes, send: (text) => sendBytes(new TextEncoder().encode(text)), end: () => sink.close() };
}

/** Have a global of a page until the end of a test. */
export function define(t, name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
}

export function fakeDocument(baseURI) {
  return Object.assign(new EventTarget(), { baseURI, hidden: false });
}

/** Whatever is ready has been done. */
export async function settled() {
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
}

/** Count the timers that are set and neither ran nor were cleared. */
export function timers(t) {
  const pending = new Set();
  for (const kind of ["Timeout", "Interval"]) {
    const [set, clear] = [globalThis[`set${kind}`], globalThis[`clear${kind}`]];
    t.mock.method(globalThis, `set${kind}`, (run, ms) => {
      const timer = set(() => {
        if (kind === "Timeout") pending.delete(timer);
        run();
      }, ms);
      pending.add(timer);
      return timer;
    });
    t.mock.method(globalThis, `clear${kind}`, (timer) => {
      pending.delete(timer);
      clear(timer);
    });
  }
  return pending;
}
