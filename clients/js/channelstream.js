/*! channelstream's client: listens to a push server and misses nothing. MIT license. */

/** What a server says about the end of a stream (docs/resume.md): stop; or come back, on the same transport. */
const STOP = new Set([1000, 1002, 1003, 1007, 1008, 1009, 4002]);
const COME_BACK = new Set([1012, 1013, 4008]);
const UNKNOWN_CONNECTION = 4001;
const REPLACED = 4002;
const OVERLOADED = 1013;
const STATUS = { 401: UNKNOWN_CONNECTION, 409: REPLACED, 429: OVERLOADED, 503: OVERLOADED };

const DEFAULTS = {
  transports: ["websocket", "sse", "poll"],
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  openTimeoutMs: 5_000,
  silenceMs: 16_000, // the server beats every 5 s
  upgradeMs: 30_000,
  sleepAfterMs: 0,
  bufferSize: 1_000,
};
/** After a restart many clients come back: their first waits are spread over at least this. */
const SPREAD_MS = 3_000;
/** A stream that lasts as long is worth starting again with short waits. */
const STABLE_MS = 10_000;
/** Failures in a row after which a transport that has worked before is given up. */
const TRIES = 3;
/** How long a stream of ours that we gave up may still turn up at the server and replace a newer one. */
const GHOST_MS = 30_000;
const UPGRADE_CAP_MS = 600_000;
/** Characters of one event-stream block. */
const BLOCK_LIMIT = 2 ** 24;

/** Full jitter: anything between nothing and a step that doubles up to its cap, in milliseconds. */
export function backoff(attempt, { baseMs = 500, capMs = 30_000, random = Math.random } = {}) {
  return random() * Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30));
}

/** Cuts an event stream, fed in pieces, into the data of its blocks. */
export class EventBlocks {
  #rest = "";

  feed(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    if (this.#rest.length > BLOCK_LIMIT) throw new RangeError("a block of the event stream is too long");
    const datas = blocks.map((block) =>
      block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n"),
    );
    return datas.filter(Boolean);
  }
}

/** Who is in which channel, kept right from events alone once a snapshot is loaded. */
export class Roster {
  #channels = new Map();
  #states = new Map();
  #recordings = new Set();
  #changed;

  constructor(changed = () => {}) {
    this.#changed = changed;
  }

  get channels() {
    return [...this.#channels.keys()];
  }

  users(channel) {
    const names = [...(this.#channels.get(channel) ?? [])].sort();
    return names.map((user) => ({ user, state: this.state(user) }));
  }

  has(channel, user) {
    return this.#channels.get(channel)?.has(user) ?? false;
  }

  state(user) {
    return this.#states.get(user) ?? {};
  }

  /** Take over what the server told; of a promise, also what is heard until it is kept. */
  load(told) {
    if (typeof told?.then !== "function") return this.#take(told);
    const heard = new Map();
    this.#recordings.add(heard);
    const done = () => this.#recordings.delete(heard);
    return told.then(
      (answer) => {
        done();
        this.#take(answer);
        // The last word on each user wins, so that what the snapshot had already does no harm.
        for (const event of heard.values()) this.apply(event);
        return answer;
      },
      (error) => {
        done();
        throw error;
      },
    );
  }

  apply(event) {
    const { type, channel, user, message } = event;
    const isState = type === "user_state_change";
    const came = type === "join" || message?.action === "joined";
    if (!isState && type !== "presence" && type !== "join" && type !== "part") return;
    for (const heard of this.#recordings) record(heard, JSON.stringify([isState, channel, user]), event);
    if (isState && !this.has(channel, user)) return;
    if (isState) this.#states.set(user, message.state);
    else if (came) this.#join(channel, user, event);
    else this.#part(channel, user);
    this.#changed(channel);
  }

  #join(channel, user, { state, users = [] }) {
    if (users.length) return this.#fill(channel, users.map((member) => member.user), users);
    if (!this.#channels.has(channel)) this.#channels.set(channel, new Set());
    this.#channels.get(channel).add(user);
    if (state) this.#states.set(user, state);
  }

  #part(channel, user) {
    this.#channels.get(channel)?.delete(user);
    this.#forget();
  }

  #take(told) {
    const { channels = {}, users = [] } = told?.channels_info ?? told ?? {};
    if (Array.isArray(told?.channels)) this.#keepOnly(new Set(told.channels));
    for (const [name, channel] of Object.entries(channels)) {
      this.#fill(name, (channel.users ?? []).map((member) => member.user ?? member), users);
      this.#changed(name);
    }
    return told;
  }

  #keepOnly(names) {
    for (const name of this.channels) if (!names.has(name)) this.#channels.delete(name);
  }

  #fill(channel, names, users) {
    this.#channels.set(channel, new Set(names));
    for (const { user, state } of users) this.#states.set(user, state ?? {});
    this.#forget();
  }

  /** Only people who are somewhere have a state. */
  #forget() {
    const rooms = [...this.#channels.values()];
    for (const user of this.#states.keys()) if (!rooms.some((room) => room.has(user))) this.#states.delete(user);
  }
}

function record(heard, key, event) {
  heard.delete(key);
  heard.set(key, event);
}

/** The stream has ended for good; `code` is the close code. */
export class StreamEnded extends Error {
  constructor({ code, reason, error }) {
    super(reason || `the stream was closed with ${code}`, { cause: error });
    this.name = "StreamEnded";
    this.code = code;
  }
}

// -- transports: each listens until its line ends, and returns {code, reason, waitMs} ------------------------------

function websocket({ address, WebSocket, signal, receive }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(address("ws").replace(/^http/, "ws"));
    socket.onmessage = ({ data }) => receive(data);
    socket.onclose = ({ code, reason }) => resolve({ code, reason });
    socket.onerror = () => {}; // implementations for node throw without one
    signal.addEventListener("abort", () => hangUp(socket, signal.reason));
  });
}

/** 1000 ends the connection, any other way of closing lets it wait for us. */
function hangUp(socket, reason) {
  const close = () => (reason === BYE ? socket.close(1000) : socket.close());
  socket.onmessage = null;
  if (socket.readyState === 0) socket.onopen = close;
  else close();
}

const BYE = "bye";

async function sse({ address, fetch, signal, receive }) {
  const response = await fetch(address("sse"), { signal, cache: "no-store", headers: { Accept: "text/event-stream" } });
  if (!response.ok) return refusal(response);
  const blocks = new EventBlocks();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return { code: 0, reason: "the event stream ended" };
    for (const data of blocks.feed(decoder.decode(value, { stream: true }))) receive(data);
  }
}

async function poll({ address, fetch, signal, receive }) {
  while (!signal.aborted) {
    const started = Date.now();
    const response = await fetch(address("listen"), { signal, cache: "no-store" });
    const text = await response.text();
    if (response.ok || text.startsWith("[")) receive(text);
    if (!response.ok) return refusal(response);
    // Something in between that answers at once, and nothing, must not make us spin.
    if (text.length < 3 && Date.now() - started < 1_000) await pause(1_000);
  }
  return { code: 0 };
}

const TRANSPORTS = { websocket, sse, poll };

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function refusal({ status, headers }) {
  const waitMs = 1_000 * Number(headers.get("retry-after")) || 0;
  return { code: STATUS[status] ?? 0, reason: `HTTP ${status}`, waitMs };
}

// -- the stream ---------------------------------------------------------------------------------------------------

export class Channelstream {
  #options;
  #base;
  #listeners = new Map();
  #readers = new Set();
  #state = "idle";
  #transport = null;
  #connection = null;
  #connId = null;
  #expired = null;
  #position = "";
  #life = null; // an AbortController from open() to the end
  #finish = null; // ends the run of the current transport
  #wakeUp = null; // ends the current wait
  #asleep = false;
  #sleepTimer = 0;
  #level = 0;
  #attempts = 0;
  #failures = 0;
  #proven = new Set();
  #renewed = false;
  #heardAt = 0;
  #upAt = 0;
  #ghostUntil = 0;
  #upgradeMs;
  #obtained;

  constructor(options = {}) {
    this.#options = { ...DEFAULTS, fetch: (...args) => fetch(...args), WebSocket: globalThis.WebSocket, ...options };
    const { url = "/", transports, WebSocket, connection, upgradeMs } = this.#options;
    this.#base = new URL(url, globalThis.location?.href);
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#options.transports = transports.filter((name) => TRANSPORTS[name] && (name !== "websocket" || WebSocket));
    if (!this.#options.transports.length) throw new TypeError("no transport can be used here");
    this.#upgradeMs = upgradeMs;
    this.roster = new Roster((channel) => this.#emit("roster", { type: "roster", channel }));
    this.#obtained = connection ?? null;
  }

  get state() {
    return this.#state;
  }

  get transport() {
    return this.#transport;
  }

  get connection() {
    return this.#connection;
  }

  get position() {
    return this.#position;
  }

  // -- what the application calls

  open() {
    if (this.#life) return this;
    this.#life = new AbortController();
    this.#attempts = this.#failures = this.#level = 0;
    this.#renewed = this.#asleep = false;
    this.#watchPage();
    this.#run(this.#life.signal);
    return this;
  }

  /** End the stream and its connection: the others see at once that the user has left. */
  close() {
    if (!this.#life) return;
    if (this.#transport === "websocket" && this.#state === "open") this.#finish({ code: 1000 }, BYE);
    else if (this.#connId) this.#disconnect();
    this.#end({ code: 1000, reason: "closed by the application" });
  }

  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.off(type, listener);
  }

  once(type, listener) {
    const off = this.on(type, (event) => {
      off();
      listener(event);
    });
    return off;
  }

  off(type, listener) {
    this.#listeners.get(type)?.delete(listener);
  }

  /** Iterate over what comes from now on; opens the stream if need be. */
  [Symbol.asyncIterator]() {
    const reader = new Reader(this.#options.bufferSize, () => this.#readers.delete(reader));
    this.#readers.add(reader);
    if (this.#state === "idle") this.open();
    return reader;
  }

  // -- one attempt after the other

  async #run(signal) {
    while (!signal.aborted) {
      const end = await (this.#connId ? this.#listen() : this.#obtain(signal));
      if (end && !signal.aborted) await this.#recover(end);
    }
  }

  /** Get a connection from the application; returns how that failed. */
  async #obtain(signal) {
    this.#state = "connecting";
    try {
      const given = this.#obtained ?? (await this.#ask(signal));
      this.#obtained = null;
      if (signal.aborted) return;
      if (typeof given?.conn_id !== "string") throw new TypeError("the application's answer has no conn_id");
      this.#connection = given;
      this.#connId = given.conn_id;
      this.#position ||= given.position ?? "";
      this.roster.load(given);
      this.#emit("connection", { type: "connection", connection: given });
    } catch (error) {
      const reason = `no connection: ${error?.message ?? error}`;
      return { code: error?.retry === false ? 1000 : 0, reason, error, waitMs: error?.waitMs, refused: true };
    }
  }

  async #ask(signal) {
    const { fetchConnection, connectUrl } = this.#options;
    if (!fetchConnection && !connectUrl) throw Object.assign(new Error("no way to get one"), { retry: false });
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), this.#options.silenceMs);
    const gone = new Promise((_, reject) => {
      for (const one of [signal, patience.signal])
        one.addEventListener("abort", () => (patience.abort(), reject(new Error("no answer"))));
    });
    const hook = { expired: this.#expired, signal: patience.signal };
    try {
      return await Promise.race([fetchConnection ? fetchConnection(hook) : this.#post(connectUrl, hook), gone]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #post(url, { expired, signal }) {
    const response = await this.#options.fetch(new URL(url, globalThis.location?.href ?? this.#base), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ expired }),
      signal,
    });
    if (response.ok) return response.json();
    const { status } = response;
    const retry = status >= 500 || status === 408 || status === 429;
    throw Object.assign(new Error(`HTTP ${status}`), { retry, waitMs: refusal(response).waitMs });
  }

  /** Run a transport until its line ends; returns how it did. */
  #listen() {
    const name = this.#options.transports[this.#level];
    const controller = new AbortController();
    const { signal } = controller;
    let timer = 0;
    this.#state = "connecting";
    this.#transport = name;
    this.#heardAt = Date.now();
    this.#upAt = 0;
    return new Promise((resolve) => {
      const finish = (this.#finish = (end, reason) => {
        if (signal.aborted) return;
        if (end.cut) this.#ghostUntil = Date.now() + GHOST_MS;
        clearTimeout(timer);
        controller.abort(reason);
        this.#finish = null;
        resolve({ ...end, name });
      });
      const watch = () => {
        const limit = this.#upAt || name === "poll" ? this.#options.silenceMs : this.#options.openTimeoutMs;
        const leftMs = limit - (Date.now() - this.#heardAt);
        if (leftMs <= 0) finish({ code: 0, reason: "silent", cut: true });
        else timer = setTimeout(watch, leftMs);
      };
      watch();
      const receive = (text) => this.#receive(text, signal, finish);
      const { fetch, WebSocket } = this.#options;
      new Promise((answer) => answer(TRANSPORTS[name]({ address: this.#address, fetch, WebSocket, signal, receive }))).then(
        finish,
        (error) => finish({ code: 0, reason: String(error) }),
      );
    });
  }

  #address = (path) => {
    const url = new URL(path, this.#base);
    url.search = new URLSearchParams({ conn_id: this.#connId, since: this.#position });
    return url.href;
  };

  #receive(text, signal, finish) {
    if (signal.aborted) return;
    let items;
    try {
      items = JSON.parse(text);
      if (!Array.isArray(items)) throw new TypeError("not a list");
    } catch (error) {
      return finish({ code: 0, reason: String(error), cut: true });
    }
    this.#heardAt = Date.now();
    for (const item of items) {
      if (signal.aborted) return;
      if (item.type === "closing") return finish({ code: item.code, reason: item.reason });
      if (item.type === "resumed") this.#resumed(item, signal);
      else this.#hear(item);
      if (item.position) this.#position = item.position;
    }
  }

  #hear(item) {
    this.roster.apply(item);
    this.#deliver(item);
  }

  /** The first item of each stream; each answer to a poll leads with one, which says something only if it is the first. */
  #resumed(item, signal) {
    const isFirst = !this.#upAt;
    if (isFirst) this.#up(signal);
    if (isFirst || item.lost.length) this.#deliver(item);
    if (item.lost.length) this.#lost(item.lost, signal);
  }

  #up(signal) {
    const { transports } = this.#options;
    this.#state = "open";
    this.#upAt = Date.now();
    this.#renewed = false;
    this.#proven.add(this.#transport);
    this.#emit("open", { type: "open", transport: this.#transport });
    if (this.#level) this.#planUpgrade(signal);
    else this.#upgradeMs = this.#options.upgradeMs;
    if (!transports[this.#level]) this.#level = 0;
  }

  #lost(channels, signal) {
    this.#deliver({ type: "lost", channels, reason: "the server no longer has what was missed" });
    const names = channels.filter(Boolean);
    if (this.#options.fetchInfo && names.length) this.#reload(names, signal, 0);
  }

  /** Bring the roster up to date, however long the application takes to answer. */
  async #reload(names, signal, attempt) {
    try {
      await this.roster.load(Promise.resolve(this.#options.fetchInfo(names)));
    } catch {
      await pause(backoff(attempt, this.#steps()));
      if (!signal.aborted) this.#reload(names, signal, attempt + 1);
    }
  }

  // -- coming back

  async #recover(end) {
    const { code, waitMs = 0 } = this.#own(end);
    const isWanted = end.level !== undefined;
    this.#count(end, code);
    if (isWanted) return void (this.#level = end.level);
    if (STOP.has(code)) return this.#end(end);
    const renews = code === UNKNOWN_CONNECTION && this.#expire();
    const mayGoOn = renews || end.now || this.#fallBack(end, code);
    const retryMs = mayGoOn && !this.#asleep ? 0 : Math.max(waitMs, 0) + backoff(this.#attempts++, this.#steps(code));
    if (retryMs || end.wasUp || this.#asleep) await this.#stayDown(end, retryMs);
  }

  /** A stream we gave up may have reached the server late and replaced a newer one of ours: then nobody else did. */
  #own(end) {
    if (end.code !== REPLACED || Date.now() > this.#ghostUntil) return end;
    this.#ghostUntil = 0;
    return { ...end, code: 4008 };
  }

  #steps(code) {
    const { backoffBaseMs: baseMs, backoffCapMs: capMs } = this.#options;
    return { baseMs: COME_BACK.has(code) && code !== 4008 ? Math.max(baseMs, Math.min(SPREAD_MS, capMs)) : baseMs, capMs };
  }

  #count(end, code) {
    end.wasUp = this.#upAt > 0;
    if (end.wasUp && Date.now() - this.#upAt >= STABLE_MS) this.#attempts = this.#failures = 0;
    if (COME_BACK.has(code)) this.#failures = 0;
    this.#upAt = 0;
  }

  /** Forget the connection; true if a new one may be asked for at once. */
  #expire() {
    this.#expired = this.#connId;
    this.#connId = null;
    const isFirst = !this.#renewed;
    this.#renewed = true;
    return isFirst;
  }

  /** Go down to the next transport if this one does not work here; true if it is to be tried at once. */
  #fallBack({ name, wasUp }, code) {
    if (!name || code >= 4000 || COME_BACK.has(code)) return false;
    this.#failures += 1;
    const isProven = this.#proven.has(name);
    if (this.#failures < (isProven ? TRIES : 1)) return false;
    this.#failures = 0;
    if (isProven && this.#level === 0) this.#upgradeMs = this.#options.upgradeMs / 10;
    this.#level = (this.#level + 1) % this.#options.transports.length;
    return this.#level > 0 && !wasUp && !isProven;
  }

  async #stayDown({ code, reason }, retryMs) {
    this.#state = this.#asleep ? "asleep" : "waiting";
    this.#transport = null;
    this.#emit("down", { type: "down", code, reason: reason ?? "", retryMs: this.#asleep ? null : Math.round(retryMs) });
    await this.#wait(retryMs);
    while (this.#asleep) await this.#wait(2 ** 31 - 1);
  }

  /** Wait, unless something speaks for trying now. */
  #wait(ms) {
    return new Promise((resolve) => {
      const done = (this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      });
      const timer = setTimeout(done, ms);
      if (this.#life?.signal.aborted ?? true) done();
    });
  }

  // -- to a better transport

  #planUpgrade(signal) {
    const ms = this.#upgradeMs / 2 + backoff(0, { baseMs: this.#upgradeMs / 2, capMs: UPGRADE_CAP_MS });
    this.#upgradeMs = Math.min(UPGRADE_CAP_MS, this.#upgradeMs * 2);
    const timer = setTimeout(() => this.#upgrade(signal), ms);
    signal.addEventListener("abort", () => clearTimeout(timer));
  }

  async #upgrade(signal) {
    const { transports } = this.#options;
    const better = transports.slice(0, this.#level);
    const works = better.includes("websocket") && (await this.#probe());
    if (signal.aborted) return;
    const level = works ? transports.indexOf("websocket") : better.indexOf("sse");
    if (level >= 0) this.#finish({ code: 0, reason: "upgrade", level, cut: true });
    else this.#planUpgrade(signal);
  }

  /** Whether WebSockets get through: one without a connection is accepted and closed, and disturbs nothing. */
  #probe() {
    return new Promise((resolve) => {
      const { WebSocket, openTimeoutMs } = this.#options;
      const socket = new WebSocket(new URL("ws", this.#base).href.replace(/^http/, "ws"));
      const timer = setTimeout(() => (hangUp(socket), resolve(false)), openTimeoutMs);
      socket.onerror = () => {};
      socket.onclose = ({ code }) => (clearTimeout(timer), resolve(code === UNKNOWN_CONNECTION));
    });
  }

  // -- the page

  #watchPage() {
    if (typeof document === "undefined") return;
    const { signal } = this.#life;
    const { sleepAfterMs } = this.#options;
    const hidden = () => {
      clearTimeout(this.#sleepTimer);
      if (!document.hidden) this.#wake();
      else if (sleepAfterMs) this.#sleepTimer = setTimeout(() => this.#sleep(), sleepAfterMs);
    };
    document.addEventListener("visibilitychange", hidden, { signal });
    addEventListener("pagehide", () => this.#sleep(), { signal }); // a page with a socket cannot wait in the cache
    addEventListener("pageshow", () => this.#wake(), { signal });
    addEventListener("online", () => this.#wake(true), { signal });
  }

  #sleep() {
    this.#asleep = true;
    this.#finish?.({ code: 0, reason: "asleep", cut: true });
  }

  /** Try now. A line that was open before the network changed is most likely dead. */
  #wake(networkChanged = false) {
    this.#asleep = false;
    const isDead = networkChanged || Date.now() - this.#heardAt >= this.#options.silenceMs;
    if (isDead) this.#finish?.({ code: 0, reason: "the line was silent", cut: true, now: true });
    this.#wakeUp?.();
  }

  // -- the end

  #disconnect() {
    const url = new URL("disconnect", this.#base);
    url.search = new URLSearchParams({ conn_id: this.#connId });
    this.#options.fetch(url.href, { method: "POST", keepalive: true }).catch(() => {});
  }

  #end({ code, reason = "", error, refused }) {
    this.#finish?.({ code });
    this.#life.abort();
    clearTimeout(this.#sleepTimer);
    this.#wakeUp?.();
    this.#life = this.#connId = this.#transport = null;
    this.#state = "closed";
    const end = { type: "close", code: refused ? UNKNOWN_CONNECTION : code, reason, error };
    for (const reader of this.#readers) reader.end(end.code === 1000 ? null : new StreamEnded(end));
    this.#readers.clear();
    this.#emit("close", end);
  }

  // -- telling

  /** What the server sent goes to listeners and iterations. */
  #deliver(item) {
    for (const reader of this.#readers) reader.push(item);
    this.#emit(item.type, item);
  }

  #emit(type, event) {
    for (const key of [type, "*"]) for (const listener of [...(this.#listeners.get(key) ?? [])]) call(listener, event);
  }
}

/** A listener's fault is the application's: it is reported as uncaught, and the others still hear the event. */
function call(listener, event) {
  try {
    listener(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** One `for await` loop: a bounded buffer that says what it had to throw away. */
class Reader {
  #limit;
  #done;
  #items = [];
  #waiting = [];
  #ended = false;
  #error = null;

  constructor(limit, done) {
    this.#limit = limit;
    this.#done = done;
  }

  push(item) {
    const next = this.#waiting.shift();
    if (next) return next.resolve({ value: item, done: false });
    if (this.#items.length >= this.#limit) this.#items = [overflow(this.#items)];
    this.#items.push(item);
  }

  end(error) {
    this.#ended = true;
    this.#error = error;
    for (const next of this.#waiting.splice(0)) this.#finish(next);
  }

  next() {
    return new Promise((resolve, reject) => {
      if (this.#items.length) resolve({ value: this.#items.shift(), done: false });
      else if (this.#ended) this.#finish({ resolve, reject });
      else this.#waiting.push({ resolve, reject });
    });
  }

  return() {
    this.#done();
    this.#items = [];
    this.end(null);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #finish({ resolve, reject }) {
    if (this.#error) reject(this.#error);
    else resolve({ value: undefined, done: true });
    this.#error = null;
  }
}

function overflow(items) {
  const names = items.flatMap((item) => (item.type === "lost" ? item.channels : item.position ? [item.channel ?? ""] : []));
  return { type: "lost", channels: [...new Set(names)].sort(), reason: "the buffer was full" };
}
