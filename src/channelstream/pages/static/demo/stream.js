/** The WebSocket to the push server: reads events, comes back after a loss, and misses nothing in between. */

import { Backoff } from "./backoff.js";

const root = document.documentElement.dataset.root;

/** The server beats every 5 s; a socket that is silent for three beats is dead. */
const SILENCE_MS = 16_000;

const UNKNOWN_CONNECTION = 4001;
/** Why the server ends a stream for good: on purpose, protocol errors, replaced by a newer stream. */
const FINAL_CODES = new Set([1000, 1002, 1007, 1008, 1009, 4002]);

export class Stream {
  #handlers;
  #socket = null;
  #connection = "";
  #position = "";
  #backoff = new Backoff();
  #retry = 0;
  #watchdog = 0;

  /**
   * @param handlers events(list), up(), down(), unknown(): the connection has expired, ended(code): do not come back.
   */
  constructor(handlers) {
    this.#handlers = handlers;
    window.addEventListener("online", () => this.#retryNow());
  }

  /** Attach to a connection. `position` is where to begin; what an earlier connection has seen counts more. */
  open(connection, position) {
    this.close();
    this.#connection = connection;
    this.#position ||= position;
    this.#attach();
  }

  /** Stop, without telling anybody. */
  close() {
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#drop();
  }

  #attach() {
    this.#retry = 0;
    const url = new URL(`${root}/ws`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = new URLSearchParams({ conn_id: this.#connection, since: this.#position });
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onmessage = (message) => this.#receive(JSON.parse(message.data));
    socket.onclose = (event) => this.#closed(event.code);
    this.#listenForSilence();
  }

  #receive(events) {
    this.#listenForSilence();
    for (const event of events) {
      if (event.position) this.#position = event.position;
      if (event.type === "resumed") {
        this.#backoff.reset();
        this.#handlers.up();
      }
    }
    if (events.length) this.#handlers.events(events);
  }

  #closed(code) {
    this.#drop();
    if (code === UNKNOWN_CONNECTION) return this.#handlers.unknown();
    if (FINAL_CODES.has(code)) return this.#handlers.ended(code);
    this.#handlers.down();
    this.#retry = setTimeout(() => this.#attach(), this.#backoff.next());
  }

  #retryNow() {
    if (!this.#retry) return;
    clearTimeout(this.#retry);
    this.#attach();
  }

  #listenForSilence() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#closed(0), SILENCE_MS);
  }

  #drop() {
    clearTimeout(this.#watchdog);
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }
}
