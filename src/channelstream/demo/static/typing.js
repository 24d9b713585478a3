/** Says to the others in a room that the visitor is typing, at most once in three seconds while the text changes. */

const PAUSE_MS = 3_000;

export class Typing {
  #announce;
  #room = null;
  #announcedAt = 0;

  /** @param announce sends it; who misses it misses nothing, so failures are not shown */
  constructor(announce) {
    this.#announce = announce;
  }

  typed(room) {
    if (room === this.#room && Date.now() - this.#announcedAt < PAUSE_MS) return;
    this.#room = room;
    this.#announcedAt = Date.now();
    this.#announce(room);
  }

  /** The message is sent: the next key begins another one. */
  ended() {
    this.#room = null;
  }
}
