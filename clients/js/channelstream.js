/*! channelstream, MIT license; described in channelstream.d.ts and docs/resume.md */

const FINAL = [1000, 1002, 1003, 1007, 1008, 1009, 4002];
const BROKEN = 1006;
const RESTARTING = 1012;
const OVERLOADED = 1013;
const UNKNOWN_CONNECTION = 4001;
const REPLACED = 4002;
const TOKEN_EXPIRED = 4003;
const SLOW = 4008;
const STATUS = { 401: UNKNOWN_CONNECTION, 409: REPLACED, 429: OVERLOADED, 503: OVERLOADED };

const DEFAULTS = {
  url: "/",
  transports: ["websocket", "sse", "poll"],
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  spreadMs: 3_000,
  openTimeoutMs: 5_000,
  silenceMs: 16_000,
  upgradeMs: 30_000,
  bufferSize: 1_000,
};
const STABLE_MS = 10_000;
const EXPIRING_MS = 25_000;
const RETRY_AFTER_CAP_MS = 300_000;
/** Failures in a row after which a proven transport is left. */
const TRIES = 3;
/** A stream that timed out or broke may still reach the server and replace a newer one. */
const GHOST_MS = 30_000;
const UPGRADE_CAP_MS = 600_000;
const REST_CHARACTERS = 2 ** 24;
/** Of up to three bytes each: a server takes 131,072 bytes. */
const TEXT_CHARACTERS = 32_768;
/** So many at once, then one in so many ms: a server takes 100, and 10 a second. */
const TEXTS = 80;
const TEXT_MS = 200;
const FOREVER_MS = 2 ** 31 - 1;
const CONTRARY = { subscribe: "unsubscribe", unsubscribe: "subscribe" };
const CLOSED = { code: 1000, reason: "closed" };

/** 128 random bits, also where the page is no secure context. */
const newId = () =>
  globalThis.crypto && [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => (byte + 256).toString(16).slice(1)).join("");

export function backoff(attempt, { baseMs = 500, capMs = 30_000, floorMs = 0, random = Math.random } = {}) {
  return random() * Math.max(floorMs, Math.min(capMs, baseMs * 2 ** attempt));
}

export class Roster {
  #channels = new Map();
  #states = new Map(); // of the members
  #recordings = new Set();
  #changed;

  constructor(changed = () => {}) {
    this.#changed = changed;
  }

  get channels() {
    return [...this.#channels.keys()];
  }

  users(channel) {
    return [...(this.#channels.get(channel) ?? [])].sort().map((user) => ({ user, state: this.state(user) }));
  }

  state(user) {
    return this.#states.get(user) ?? {};
  }

  load(answer, names = []) {
    const isMembership = Array.isArray(answer.channels);
    const { channels = {}, users = [] } = answer.channels_info ?? (isMembership ? {} : answer);
    const left = isMembership ? this.channels.filter((name) => !answer.channels.includes(name)) : [];
    const changed = new Set([...left, ...names, ...Object.keys(channels)]);
    for (const name of changed) this.#fill(name, new Set(channels[name]?.users));
    for (const name of left) this.#channels.delete(name);
    for (const { user, state } of users) this.#setState(user, state, changed);
    changed.forEach((name) => this.#changed(name));
  }

  /** Afterwards the last event of each user that came meanwhile is applied again. */
  async loadLater(promise, names) {
    const events = new Map();
    this.#recordings.add(events);
    try {
      const answer = await promise;
      if (!(answer.channels_info ?? answer).channels) throw new TypeError("no channels");
      this.load(answer, names);
    } finally {
      this.#recordings.delete(events);
    }
    for (const event of events.values()) this.apply(event);
  }

  apply(event) {
    const { type, channel, user, message, state } = event;
    if (type === "unsubscribed") this.load({ channels: this.channels.filter((name) => !event.channels.includes(name)) });
    const isPresence = type === "presence";
    if (!isPresence && type !== "user_state_change") return;
    for (const events of this.#recordings) {
      const key = JSON.stringify([isPresence, channel, user]);
      events.delete(key);
      events.set(key, event);
    }
    const changed = new Set([channel]);
    if (isPresence) this.#move(channel, user, message.action === "joined");
    this.#setState(user, isPresence ? state : message.state, changed);
    changed.forEach((name) => this.#changed(name));
  }

  #fill(channel, users) {
    for (const user of [...users, ...(this.#channels.get(channel) ?? [])]) this.#move(channel, user, users.has(user));
    if (!this.#channels.has(channel)) this.#channels.set(channel, users);
  }

  #move(channel, user, isIn) {
    const users = this.#channels.get(channel) ?? new Set();
    if (users.has(user) === isIn) return;
    if (isIn) {
      this.#channels.set(channel, users.add(user));
      this.#states.set(user, this.state(user));
    } else {
      users.delete(user);
      if (![...this.#channels.values()].some((others) => others.has(user))) this.#states.delete(user);
    }
  }

  #setState(user, state, changed) {
    if (!this.#states.has(user) || !state || JSON.stringify(state) === JSON.stringify(this.state(user))) return;
    this.#states.set(user, state);
    this.#channels.forEach((users, name) => users.has(user) && changed.add(name));
  }
}

// A transport receives until its stream ends, and returns {code, reason, waitMs}.

function websocket({ address, WebSocket, signal, receive, greet }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(address("ws").replace("http", "ws"));
    socket.onopen = () => greet((text) => socket.send(text));
    socket.onmessage = ({ data }) => receive(data);
    socket.onclose = resolve;
    socket.onerror = () => setTimeout(resolve, 100, { code: BROKEN, reason: "error" }); // node 22 may report no end
    signal.addEventListener("abort", () => socket.close());
  });
}

/** Read a body; `take` gets the rest so far and a chunk, and returns the new rest. */
async function read({ body }, take) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return rest;
    rest = take(rest, decoder.decode(value, { stream: true }));
    if (rest.length > REST_CHARACTERS) throw new RangeError("too long");
  }
}

async function sse({ address, fetch, receive, alive, init }) {
  const response = await fetch(address("sse"), init());
  if (!response.ok) return refusal(response);
  await read(response, (rest, chunk) => {
    const lines = chunk.split("\n");
    lines[0] = rest + lines[0];
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) receive(line.slice(5));
    alive(rest);
    return rest;
  });
  return { code: 0, reason: "ended" };
}

async function poll({ address, fetch, signal, receive, alive, init }) {
  while (!signal.aborted) {
    const started = Date.now();
    const asked = address("listen");
    const response = await fetch(asked, init());
    if (!response.ok) return refusal(response);
    // Not every platform has streams.
    receive(response.body ? await read(response, (rest, chunk) => alive(rest + chunk)) : await response.text());
    alive("");
    // A cache may answer at once.
    if (asked === address("listen") && Date.now() - started < 1_000) await pause(1_000, signal);
  }
}

function absolute(url, option) {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw new TypeError(`${option} must be an absolute URL where there is no page`);
  }
}

function checked(connection) {
  if (typeof connection?.conn_id === "string" && connection.conn_id) return connection;
  throw new TypeError("it has no conn_id");
}

function checkedToken(token) {
  if (typeof token === "string" && token) return token;
  throw new TypeError("getToken gave no token");
}

/** The result of `ask` within `ms`, unless `signal` aborts; `late` gets a later one. */
function answer(ask, ms, signal, late) {
  return new Promise((resolve, reject) => {
    const limit = new AbortController(); // AbortSignal.timeout is too new
    const giveUp = () => {
      clearTimeout(timer);
      reject(new Error("no answer in time"));
      asked.then(late, () => {});
    };
    const timer = setTimeout(() => (giveUp(), limit.abort()), ms);
    signal.addEventListener("abort", giveUp, { signal: limit.signal });
    const asked = new Promise((take) => take(ask(limit.signal)));
    asked.then(resolve, reject).then(() => (clearTimeout(timer), limit.abort()));
    if (signal.aborted) giveUp();
  });
}

const pause = (ms, signal) => answer(() => new Promise(() => {}), ms, signal).catch(() => {});

const TRANSPORTS = { websocket, sse, poll };

/** The end that an error answer means, by its body or status. */
async function refusal(response) {
  const { status, headers } = response;
  const after = headers.get("retry-after");
  const waitMs = 1_000 * after || Date.parse(after) - Date.now();
  const { error = `HTTP ${status}`, close_code } = (await response.json().catch(() => null)) ?? {};
  // Without a close code it may be a proxy's.
  return { code: close_code ?? STATUS[status] ?? 0, reason: `${error}`, waitMs, status: close_code ? 0 : status };
}

export class Channelstream {
  state = "idle";
  transport = null;
  position = "";
  receivedAt = 0;
  #options;
  #base;
  #connectUrl;
  #transports;
  #listeners = new Map();
  #readers = new Set();
  #connId;
  #expired = null;
  #life; // aborted at the end
  #end;
  #finish; // ends #listen
  #waiting = new AbortController(); // aborts #wait
  #asleep = false;
  #level = 0;
  #attempts = 0;
  #failures = 0;
  #immediate = new Set();
  #proven = new Set();
  #upAt = 0;
  #partial = ""; // part of an item
  #silences = 0; // timeouts in a row
  #ghostUntil = 0;
  #reported = "";
  #upgradeMs;
  #stale = new Set();
  #resyncing; // signal of the resync
  #token; // empty: to be asked for
  #send;
  #commands = new Map(); // not answered yet, by id
  #unsent = Infinity; // id of the first command that this stream has not sent
  #isPosting = false;
  #unanswered = new Set(); // commands by channel that may still arrive
  #number = 0;
  #wanted = new Map(); // from where a channel is to be joined again; null until it is joined, then empty
  #expiry;

  constructor(options = {}) {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, fetch: (...args) => fetch(...args), WebSocket: globalThis.WebSocket, ...given };
    const { url, transports, WebSocket, connection, connectUrl, token, getToken } = this.#options;
    this.#base = absolute(url, "url");
    if (connectUrl) this.#connectUrl = absolute(connectUrl, "connectUrl");
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#transports = transports.filter((name) => TRANSPORTS[name] && (name !== "websocket" || WebSocket));
    if (!this.#transports.length) throw new TypeError("no transport can be used here");
    this.connection = connection && checked(connection);
    this.#token = token || (getToken && "");
    this.roster = new Roster((channel) => this.#emit({ type: "roster", channel }));
  }

  open() {
    if (this.#life) return this;
    this.#life = new AbortController();
    this.#level = 0;
    this.#reset();
    this.#asleep = false;
    this.#end = null;
    this.#watchPage(this.#life.signal);
    this.#run(this.#life.signal);
    return this;
  }

  close() {
    this.#disconnect(this.#connId);
    if (this.#life) this.#stop(CLOSED);
  }

  #disconnect(connId) {
    const { fetch } = this.#options; // Not as a method: a page's own refuses another `this`.
    if (connId) fetch(this.#address("disconnect", { conn_id: connId }), { method: "POST", keepalive: true }).catch(() => {});
  }

  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  [Symbol.asyncIterator]() {
    const waiting = [];
    let items = [];
    let end = this.#end;
    const settle = () => {
      while (waiting.length && (items.length || end)) {
        const { resolve, reject } = waiting.shift();
        if (items.length) resolve({ value: items.shift(), done: false });
        else if (end.code === 1000) resolve({ value: undefined, done: true });
        else {
          reject(Object.assign(new Error(end.reason), end));
          end = CLOSED;
        }
      }
    };
    const read = (item, last) => {
      if (item && items.length >= this.#options.bufferSize) items = [overflow(items)];
      if (item) items.push(item);
      end = last;
      settle();
    };
    const next = () =>
      new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        if (!end) this.#readers.add(read);
        if (this.state === "idle") this.open();
        settle();
      });
    const stop = async (value) => {
      this.#readers.delete(read);
      items = [];
      end = CLOSED;
      settle();
      return { value, done: true };
    };
    return { next, return: stop, [Symbol.asyncIterator]() { return this; } };
  }

  async #run(signal) {
    while (!signal.aborted) {
      const isReady = this.#token ?? this.#connId;
      const end = await (this.#asleep ? this.#sleep() : isReady ? this.#listen() : this.#connect(signal));
      if (end && !signal.aborted) await this.#recover(end);
    }
  }

  async #connect(signal) {
    this.state = "connecting";
    try {
      if (this.#token === "") return void (this.#token = await this.#ask(signal));
      const given = (!this.#expired && this.connection) || checked(await this.#ask(signal));
      if (signal.aborted) return this.#discard(given);
      this.connection = given;
      this.#connId = given.conn_id;
      this.position ||= given.position ?? "";
      this.roster.load(given);
      this.#emit({ type: "connection", connection: given });
    } catch (error) {
      const reason = `no connection: ${error?.message}`;
      return { code: error?.retry === false ? 1000 : 0, reason, error, waitMs: error?.waitMs };
    }
  }

  subscribe(names, positions) {
    const [channels, given] = [[...names], { ...positions }]; // The text may be written again.
    for (const name of channels) if (!this.#wanted.has(name)) this.#wanted.set(name, null);
    const fields = () => {
      const since = { __proto__: null, ...given };
      for (const name of channels) since[name] ??= this.#wanted.get(name) || undefined;
      const left = channels.filter((name) => this.#wanted.has(name));
      return { channels: left.length ? left : channels, since };
    };
    const joined = this.#command("subscribe", fields(), { fields });
    joined.then(() => this.#note(channels), () => {});
    return joined;
  }

  #note(channels) {
    for (const name of channels) if (this.#wanted.has(name)) this.#wanted.set(name, "");
  }

  unsubscribe(channels) {
    for (const name of channels) this.#wanted.delete(name);
    return this.#command("unsubscribe", { channels });
  }

  publish(channel, message, uuid = newId()) {
    return this.#command("publish", { channel, message, uuid });
  }

  info(channels) {
    return this.#command("info", { channels });
  }

  #command(type, fields, more) {
    return new Promise((resolve, reject) => {
      if (this.#end) throw Object.assign(new Error(this.#end.reason), this.#end);
      if (this.#commands.size >= this.#options.bufferSize) throw new RangeError("full");
      const id = ++this.#number;
      this.#commands.set(id, { text: JSON.stringify({ id, type, ...fields }), resolve, reject, ...more });
      this.#sendWaiting();
    });
  }

  async #sendWaiting() {
    if (this.#isPosting) return; // Several requests, or a request and a socket, are answered in any order.
    const waiting = [...this.#commands].filter(([id]) => id >= this.#unsent);
    if (!waiting.length) return;
    if (this.#send) {
      this.#unsent = this.#number + 1;
      return this.#send(waiting);
    }
    this.#isPosting = true;
    const body = text(waiting);
    const posted = JSON.parse(body);
    const { fetch, silenceMs } = this.#options;
    const connId = this.#connId;
    const post = async (signal) => {
      const response = await fetch(this.#address("client"), { ...this.#init(signal), method: "POST", body });
      if (!response.ok) throw await refusal(response);
      return response.json();
    };
    let end = "no answer";
    try {
      for (const item of await answer(post, silenceMs, this.#life.signal)) {
        if (item.type === "reply") this.#answered(item, connId);
        else this.#deliver(item);
      }
    } catch (error) {
      end = error?.reason ?? error?.message ?? end;
      if (!error?.reason && connId === this.#connId)
        for (const { type, channels } of posted) channels?.forEach((name) => this.#unanswered.add(type + name));
    }
    for (const { id } of posted) this.#answered({ id, error: { message: end } }, connId);
    this.#isPosting = false;
    this.#sendWaiting();
  }

  #answered({ id, result, error }, asked = this.#connId) {
    const { text, resolve, reject, fields } = this.#commands.get(id) ?? {};
    // It is sent to the new connection, which is to join.
    if (asked !== this.#connId && fields?.().channels.some((name) => this.#wanted.has(name))) return;
    const { expires_in: seconds, conn_id: connId, lost = [], unsubscribed } = result ?? {};
    if (seconds >= 0 && this.#options.getToken) {
      clearTimeout(this.#expiry);
      const ms = seconds * 1_000;
      const waitMs = Math.max(ms - EXPIRING_MS, ms / 2, 1_000);
      this.#expiry = setTimeout(() => this.#refresh(), Math.min(waitMs, FOREVER_MS));
    }
    if (connId) {
      if (connId !== this.#connId) this.#unanswered.clear();
      this.connection = result;
      this.#connId = connId;
      this.#emit({ type: "connection", connection: result });
    }
    if (lost.length) this.#deliver({ type: "lost", channels: lost, reason: "no longer kept" });
    if (unsubscribed) this.roster.apply({ type: "unsubscribed", channels: unsubscribed });
    this.#commands.delete(id);
    if (error) reject?.(Object.assign(new Error(), error));
    else resolve?.(result);
    const { type, channels } = JSON.parse((result && text) || "{}");
    if (!channels?.some((name) => this.#unanswered.has(CONTRARY[type] + name))) return;
    this.#connId = null; // The next connection is only in channels that are wanted.
    this.#finish?.({ code: UNKNOWN_CONNECTION });
  }

  #joinAgain(signal, names = this.#wanted.keys()) {
    const wanted = [...names].filter((name) => !signal.aborted && this.#wanted.get(name) != null);
    while (wanted.length) {
      const channels = wanted.splice(0, 100);
      const since = Object.fromEntries(channels.map((name) => [name, this.#wanted.get(name)]));
      const later = ({ code, retry_after: seconds = !code }) => {
        // Spread, as all clients of a server may wait for it.
        if (seconds) pause(1_000 * seconds * (1 + Math.random()), signal).then(() => this.#joinAgain(signal, channels));
        // One may not be granted.
        else if (channels[1]) for (const name of channels) this.#joinAgain(signal, [name]);
      };
      this.#command("subscribe", { channels, since }, { signal }).then(() => signal.aborted || this.#note(channels), later);
    }
  }

  #refresh() {
    const { signal } = this.#life;
    const take = (token) => signal.aborted || this.#command("refresh", { token: (this.#token = token) });
    this.#ask(signal).then(take).catch(() => {});
  }

  #init(signal) {
    return { signal, cache: "no-store", headers: this.#token && { Authorization: `Bearer ${this.#token}` } };
  }

  #ask(life) {
    const { fetchConnection, silenceMs, getToken } = this.#options;
    if (getToken) return answer(async (signal) => checkedToken(await getToken({ signal })), silenceMs, life);
    if (!fetchConnection && !this.#connectUrl) throw Object.assign(new Error("no way to get a new one"), { retry: false });
    const asked = { expired: this.#expired, since: this.position || undefined };
    const ask = (signal) => (fetchConnection ? fetchConnection({ ...asked, signal }) : this.#post(asked, signal));
    return answer(ask, silenceMs, life, (given) => this.#discard(given));
  }

  #discard(given) {
    if (given?.conn_id !== this.#connId) this.#disconnect(given?.conn_id);
  }

  async #post(asked, signal) {
    const { fetch, connectHeaders, connectCredentials: credentials } = this.#options;
    const headers = new Headers(typeof connectHeaders === "function" ? await connectHeaders() : connectHeaders);
    headers.set("Content-Type", "application/json");
    const body = JSON.stringify(asked);
    const response = await fetch(this.#connectUrl.href, { method: "POST", headers, credentials, body, signal });
    if (response.ok) return response.json();
    const { reason, waitMs } = await refusal(response);
    const retry = response.status >= 500 || [408, 429].includes(response.status);
    throw Object.assign(new Error(reason), { retry, waitMs });
  }

  #listen() {
    const name = this.#transports[this.#level];
    const { fetch, WebSocket, silenceMs, openTimeoutMs } = this.#options;
    const line = new AbortController();
    const { signal } = line;
    this.state = "connecting";
    this.transport = name;
    this.receivedAt = Date.now();
    this.#upAt = 0;
    this.#reported = this.#partial = "";
    return new Promise((resolve) => {
      const finish = ({ code, reason, ...more } = {}) => {
        if (signal.aborted) return;
        clearInterval(watchdog);
        line.abort();
        this.#finish = this.#send = null;
        this.#unsent = Infinity; // The stream that opens next sends them.
        resolve({ name, code, reason, ...more });
      };
      const watchdog = setInterval(() => {
        const isOpen = this.#upAt || name === "poll";
        // A WebSocket does not show the arrival of a long message.
        const limitMs = isOpen ? Math.min(silenceMs * 2 ** this.#silences, UPGRADE_CAP_MS) : openTimeoutMs;
        // A clock that was set back would hide any silence.
        if (Math.abs(Date.now() - this.receivedAt) > limitMs) finish({ code: 0, reason: "silent", isSilent: isOpen });
      }, 250);
      this.#finish = finish;
      const receive = (text) => this.#receive(text, signal, finish);
      const where = () => ({ conn_id: this.#connId ?? "", since: this.position });
      const address = (path) => this.#address(path, path !== "ws" || !this.#token ? where() : {});
      const greet = (send) => {
        if (!this.#token || signal.aborted) return;
        this.#send = paced(send, signal);
        send(JSON.stringify({ id: 0, type: "connect", token: this.#token, ...where() }));
      };
      const init = () => this.#init(signal);
      const alive = (rest) => {
        this.receivedAt = Date.now();
        return (this.#partial = rest);
      };
      const ended = TRANSPORTS[name]({ address, fetch, WebSocket, signal, receive, alive, greet, init });
      ended.then(finish, (error) => finish({ code: 0, reason: `${error}` }));
    });
  }

  #address(path, query = { conn_id: this.#connId }) {
    const url = new URL(path, this.#base);
    url.search = new URLSearchParams(query);
    return url.href;
  }

  #receive(text, signal, finish) {
    try {
      if (signal.aborted) return;
      const items = JSON.parse(text);
      this.receivedAt = Date.now();
      if (this.#upAt) this.#silences = 0;
      // A poll may get `resumed` late.
      const opens = !this.#upAt && (this.transport === "poll" || items[0]?.type === "resumed");
      if (opens) this.#up(signal, finish);
      for (const item of items) {
        if (signal.aborted) return;
        if (item.type === "closing") return finish(item);
        if (item.position) this.position = item.position;
        if (item.type === "reply") this.#answered(item);
        else if (item.type === "resumed") this.#resumed(item);
        else this.#deliver(item);
      }
      if (!opens || signal.aborted) return;
      // Not before: the text may have the conn_id of a new connection.
      this.#joinAgain(signal);
      for (const [id, command] of this.#commands) {
        if (command.signal?.aborted) this.#commands.delete(id); // Its channels are in a new one.
        else if (command.fields) command.text = JSON.stringify({ id, type: "subscribe", ...command.fields() });
      }
      this.#unsent = 0;
      this.#sendWaiting();
    } catch (error) {
      finish({ code: 0, reason: `${error}` });
    }
  }

  #up(signal, finish) {
    this.state = "open";
    this.#upAt = Date.now();
    // `resumed` may move it, and a new connection is in none of these yet.
    for (const [name, since] of this.#wanted) if (since === "") this.#wanted.set(name, this.position);
    this.#proven.add(this.transport);
    if (this.#level) this.#upgradeLater(signal, finish);
    this.#emit({ type: "open", transport: this.transport });
  }

  async #upgradeLater(signal, finish) {
    const waitMs = this.#upgradeMs * (0.5 + Math.random() / 2);
    this.#upgradeMs = Math.min(UPGRADE_CAP_MS, this.#upgradeMs * 2);
    await pause(waitMs, signal);
    while (this.#partial && !signal.aborted) await pause(1_000, signal); // Not while an item arrives.
    finish({ code: 0, upgrade: true });
  }

  #resumed({ position, recovered, lost }) {
    // Polls may repeat it.
    const before = this.#reported;
    this.#reported = JSON.stringify([position, lost]);
    if (!before && recovered.length) this.#deliver({ type: "recovered", channels: recovered });
    if (!lost.length || before === this.#reported) return;
    this.#deliver({ type: "lost", channels: lost, reason: "no longer kept" });
    for (const name of lost) if (name) this.#stale.add(name);
    const { signal } = this.#life ?? {};
    if (this.#options.fetchInfo && signal && signal !== this.#resyncing) this.#resync(signal);
  }

  async #resync(signal) {
    const { fetchInfo, silenceMs } = this.#options;
    this.#resyncing = signal;
    for (let attempt = 0; this.#stale.size && !signal.aborted; attempt++) {
      const names = [...this.#stale];
      this.#stale.clear();
      try {
        await this.roster.loadLater(answer(() => fetchInfo(names), silenceMs, signal), names);
      } catch {
        for (const name of names) this.#stale.add(name);
        await pause(backoff(attempt), signal);
      }
    }
    if (this.#resyncing === signal) this.#resyncing = undefined;
  }

  async #recover({ code, reason = "", waitMs, error, name, status, upgrade, now, isSilent }) {
    const { backoffBaseMs, backoffCapMs, spreadMs } = this.#options;
    const wasUp = this.#upAt > 0;
    if (wasUp && this.receivedAt - this.#upAt >= STABLE_MS) this.#reset();
    this.#upAt = 0;
    if (isSilent && name === "websocket") this.#silences++;
    if (code === REPLACED && Date.now() < this.#ghostUntil) code = SLOW;
    this.#ghostUntil = [0, BROKEN].includes(code) ? Date.now() + GHOST_MS : 0;
    if (upgrade) {
      this.#level = 0;
      this.#failures = TRIES - 1; // one failure falls back
      return;
    }
    if (FINAL.includes(code)) return this.#stop({ code: error ? UNKNOWN_CONNECTION : code, reason, error });
    if (this.#asleep) return;
    const isCrowded = code === RESTARTING || code === OVERLOADED;
    const isImmediate = this.#isImmediate(code, wasUp);
    const fallsBack = name && (isCrowded ? status : code < 4000) && this.#fallsBack(name);
    const atOnce = now || (!isCrowded && (isImmediate || fallsBack));
    const jitter = { baseMs: backoffBaseMs, capMs: backoffCapMs, floorMs: isCrowded ? spreadMs : 0 };
    const afterMs = Math.min(Math.max(waitMs || 0, 0), RETRY_AFTER_CAP_MS);
    const retryMs = atOnce ? 0 : afterMs + backoff(this.#attempts++, jitter);
    if (retryMs || wasUp) await this.#wait("waiting", { code, reason, retryMs }, retryMs);
  }

  #reset() {
    this.#attempts = this.#failures = 0;
    this.#immediate.clear();
    if (!this.#level) this.#upgradeMs = this.#options.upgradeMs;
  }

  /** At once if the server chose to end the stream, the first time since a stable one. */
  #isImmediate(code, wasUp) {
    if (code === UNKNOWN_CONNECTION) {
      this.#expired = this.#connId;
      this.#connId = null;
    } else if (code === TOKEN_EXPIRED && this.#token) this.#token = "";
    else if (code !== SLOW && !(code === RESTARTING && wasUp)) return false;
    if (this.#immediate.has(code)) return false;
    this.#immediate.add(code);
    if (code === RESTARTING) this.#attempts = 0;
    return true;
  }

  #fallsBack(name) {
    if (++this.#failures < (this.#proven.has(name) ? TRIES : 1)) return false;
    this.#failures = 0;
    this.#level = (this.#level + 1) % this.#transports.length;
    return this.#level > 0;
  }

  #wait(state, event, ms) {
    this.state = state;
    this.transport = null;
    this.#waiting = new AbortController();
    this.#emit({ type: "down", ...event });
    return pause(Math.min(ms, FOREVER_MS), this.#waiting.signal);
  }

  #watchPage(signal) {
    if (!globalThis.document) return;
    const hide = () => {
      this.#asleep = true; // the page cache wants no socket
      this.#finish?.({ code: 0, reason: "asleep" });
    };
    window.addEventListener("pagehide", hide, { signal });
    window.addEventListener("pageshow", () => this.#wake(), { signal });
    window.addEventListener("online", () => this.#wake(true), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake(), { signal });
  }

  #sleep() {
    return this.#wait("asleep", { code: 0, reason: "asleep", retryMs: null }, FOREVER_MS);
  }

  #wake(hasNewNetwork) {
    this.#asleep = false;
    if (hasNewNetwork || Date.now() - this.receivedAt > this.#options.silenceMs)
      this.#finish?.({ code: 0, reason: "silent", now: true });
    this.#waiting.abort();
  }

  #stop(end) {
    this.#finish?.(end);
    this.#life.abort();
    this.#waiting.abort();
    this.#expired = this.#connId ?? this.#expired;
    clearTimeout(this.#expiry);
    for (const id of this.#commands.keys()) this.#answered({ id, error: { message: end.reason } });
    this.#life = this.#connId = this.transport = null;
    this.state = "closed";
    this.#end = end;
    const { code, reason } = end;
    const isSeen = code === 1000 || this.#readers.size || ["close", "*"].some((type) => this.#listeners.get(type)?.size);
    if (!isSeen) console.warn(`channelstream: ${reason} (${code})`);
    for (const read of this.#readers) read(null, end);
    this.#readers.clear();
    this.#emit({ type: "close", ...end });
  }

  #deliver(item) {
    if (item.type === "unsubscribed") for (const name of item.channels) this.#wanted.delete(name);
    this.roster.apply(item);
    for (const read of this.#readers) read(item);
    this.#emit(item);
  }

  #emit(event) {
    for (const type of [event.type, "*"]) {
      const listeners = this.#listeners.get(type) ?? [];
      for (const listener of [...listeners]) if (listeners.has(listener)) call(listener, event);
    }
  }
}

/** Sends commands, joined in lists where they wait. */
function paced(send, signal) {
  const waiting = [];
  let room = TEXTS;
  return async (commands) => {
    const refills = room === TEXTS;
    waiting.push(...commands);
    while (!signal.aborted) {
      for (; room && waiting.length; room--) send(text(waiting));
      if (!refills || room === TEXTS) return;
      await pause(TEXT_MS, signal);
      room++;
    }
  };
}

/** Takes the first commands as one list, of TEXT_CHARACTERS unless the first one is longer. */
function text(commands) {
  const list = [];
  let room = TEXT_CHARACTERS;
  do {
    list.push(commands.shift()[1].text);
    room -= list[list.length - 1].length;
  } while (commands[0]?.[1].text.length <= room);
  return `[${list}]`;
}

/** A listener's error is reported as uncaught. */
function call(listener, event) {
  try {
    listener(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

function overflow(items) {
  const names = items.flatMap((item) => (item.type === "lost" ? item.channels : item.position ? [item.channel ?? ""] : []));
  return { type: "lost", channels: [...new Set(names)].sort(), reason: "buffer full" };
}
