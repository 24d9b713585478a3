/** The list of messages as it scrolls: its end stays in view until the reader scrolls up, whatever grows or shrinks around it. */

import { byId } from "./element.js";

const NEAR_PX = 60;

export class Scroller {
  #box = byId("scroll");
  #newer = byId("newer");
  #isAtEnd = true;
  #top = 0;
  #newestSeen = "";
  #reachedTop;

  /** @param reachedTop is called when the oldest message comes into view: it has been scrolled to, or there are few */
  constructor(reachedTop) {
    this.#reachedTop = reachedTop;
    this.#box.addEventListener("scroll", () => this.#scrolled());
    const resized = new ResizeObserver(() => this.#isAtEnd && this.toEnd());
    for (const id of ["scroll", "messages"]) resized.observe(byId(id));
    this.#newer.addEventListener("click", () => this.toEnd());
  }

  toEnd() {
    this.#isAtEnd = true;
    this.#newer.hidden = true;
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#top = this.#box.scrollTop;
  }

  /** Change the messages. What a reader of older ones sees keeps its place, also if messages are added above. */
  around(change) {
    const first = this.#isAtEnd ? undefined : this.#firstInView();
    const before = first && this.#placeOf(first);
    change();
    if (this.#isAtEnd) this.toEnd();
    else if (this.#placeOf(first) !== undefined) this.#box.scrollTop += this.#placeOf(first) - before;
    this.#top = this.#box.scrollTop;
    if (this.#box.clientHeight && this.#box.scrollHeight <= this.#box.clientHeight) this.#reachedTop();
  }

  /** Offer the way down if the newest message, by its time, came while older ones are read. */
  offerNewest(timestamp) {
    if (this.#isAtEnd) this.#newestSeen = timestamp;
    this.#newer.hidden = timestamp <= this.#newestSeen;
  }

  /** Growing content and a new height scroll nothing up: only the reader leaves the end. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    if (isNear) this.#newer.hidden = true;
    if (isNear || scrollTop < this.#top) this.#isAtEnd = isNear;
    if (scrollTop < Math.min(this.#top, NEAR_PX)) this.#reachedTop();
    this.#top = scrollTop;
  }

  #firstInView() {
    const { top } = this.#box.getBoundingClientRect();
    return [...byId("messages").children].find((item) => item.getBoundingClientRect().bottom > top)?.dataset.uuid;
  }

  #placeOf(uuid) {
    return uuid && byId("messages").querySelector(`[data-uuid="${CSS.escape(uuid)}"]`)?.getBoundingClientRect().top;
  }
}
