/** Asks the server for a sign of life while its line is idle, so that a silent one is noticed before a heartbeat is missing. */

/** How long nothing has come when the server is asked, and the pause after a question that failed. */
const IDLE_MS = 500;
/** How long an answer may take. With the idle time and the interval of the looks this makes less than two seconds. */
const ANSWER_MS = 1_000;
/** How long a question is waited for: its own line may stay silent when that of the stream works again. */
const GIVE_UP_MS = 4_000;

/** One question at a time, and none while the visitor does not see the page. */
export class Probe {
  #url;
  #askedAt = 0; // first question since the last answer
  #settledAt = 0; // last answer or failure
  #isAsking = false;

  constructor(url) {
    this.#url = url;
  }

  /** Ask if nothing has come for a while; `receivedAt` is when the stream received something. */
  look(receivedAt) {
    if (this.#isAsking || document.hidden || Date.now() - Math.max(receivedAt, this.#settledAt) < IDLE_MS) return;
    this.#askedAt ||= Date.now();
    this.#ask();
  }

  /** Whether the answer is late, and nothing else has come meanwhile. */
  isLate(receivedAt) {
    return this.#askedAt > 0 && Date.now() - Math.max(receivedAt, this.#askedAt) > ANSWER_MS;
  }

  /** Any answer counts: a server that refuses is there. */
  async #ask() {
    this.#isAsking = true;
    const question = new AbortController();
    const timer = setTimeout(() => question.abort(), GIVE_UP_MS);
    try {
      await fetch(this.#url, { cache: "no-store", signal: question.signal });
      this.#askedAt = 0;
    } catch {} // The question stays without an answer.
    clearTimeout(timer);
    this.#settledAt = Date.now();
    this.#isAsking = false;
  }
}
