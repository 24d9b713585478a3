/** Waits between attempts: they double, and chance spreads them so that clients do not come back all at once. */

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export class Backoff {
  #attempts = 0;

  /** The next wait, in milliseconds: between half of the step and all of it. */
  next() {
    const step = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#attempts++, 10));
    return step / 2 + (Math.random() * step) / 2;
  }

  reset() {
    this.#attempts = 0;
  }
}
