/** What the page says about its line to the push server: at most two seconds after the line has changed, as far as a page can know. */

import { byId } from "./element.js";
import { Probe } from "./probe.js";

/** How late a heartbeat may be. */
const LATE_MS = 1_500;
const LOOK_MS = 200;
const LOST = "The connection was lost. Reconnecting; missed messages will follow.";
const SAYS = {
  live: ["Live", ""],
  down: ["Offline", LOST],
  offline: ["Offline", "This device has no network. Missed messages will follow."],
  silent: ["No answer", "The server has been silent for longer than it should be. Missed messages will follow."],
};

export class Line {
  #stream = null;
  #isUp = false;
  #offlineAt = 0;
  #shown = "";
  #heartbeatMs;
  #probe;

  constructor(heartbeatMs, aliveUrl) {
    this.#heartbeatMs = heartbeatMs;
    this.#probe = new Probe(aliveUrl);
    window.addEventListener("offline", () => {
      this.#offlineAt = Date.now();
      this.#look();
    });
    setInterval(() => this.#look(), LOOK_MS);
  }

  /** Describe this stream from now on. */
  follow(stream) {
    this.#stream = stream;
    this.#isUp = false;
    stream.on("open", () => this.#turn(stream, true));
    stream.on("down", () => this.#turn(stream, false));
  }

  /** Say how the stream has ended; the visitor may open another one. */
  ended(text) {
    this.#stream = null;
    this.#show("ended", "Offline", text);
  }

  #turn(stream, isUp) {
    if (stream !== this.#stream) return;
    this.#isUp = isUp;
    this.#look();
  }

  #look() {
    const state = this.#stream && this.#state();
    if (state) this.#show(state, ...SAYS[state]);
  }

  #state() {
    const { receivedAt, transport } = this.#stream;
    // On a loopback address a stream works without a network.
    if (this.#offlineAt > receivedAt) return "offline";
    if (!this.#isUp) return this.#shown && "down";
    this.#probe.look(receivedAt);
    // The answer to a poll comes when there is something to send.
    const misses = transport !== "poll" && Date.now() - receivedAt > this.#heartbeatMs + LATE_MS;
    return misses || this.#probe.isLate(receivedAt) ? "silent" : "live";
  }

  #show(state, text, note) {
    if (state === this.#shown) return;
    this.#shown = state;
    byId("link").toggleAttribute("data-up", state === "live");
    byId("link").textContent = text;
    byId("note-text").textContent = note;
    byId("note-action").hidden = state !== "ended";
    byId("note").hidden = !note;
  }
}
