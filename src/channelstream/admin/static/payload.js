/** What is typed as a message: JSON, or a text that becomes `{text}`. */

/** A text that begins as JSON and is none; `index` is that of the character at which it is broken. */
export class Broken extends Error {
  constructor(text, { index, expected }) {
    const before = text.slice(0, index).split("\n");
    super(`This is no JSON: at line ${before.length}, column ${before.at(-1).length + 1} ${expected} is expected. Correct it, or send it as text.`);
    this.index = index;
  }
}

/** Read a message. Throws `Broken` for what begins as JSON, unless it `isText`. */
export function payloadOf(text, isText) {
  if (isText) return { text };
  try {
    return JSON.parse(text);
  } catch {
    const fault = new Scan(text).fault();
    if (/^\s*[[{"]/.test(text) && fault) throw new Broken(text, fault);
    return { text };
  }
}

/** Finds where a text stops to be JSON (RFC 8259). What browsers say about it differs, and often lacks the place. */
class Scan {
  #text;
  #at = 0;

  constructor(text) {
    this.#text = text;
  }

  /** Return the first fault, with what is expected in its place. */
  fault() {
    try {
      this.#value();
      if (this.#at < this.#text.length) this.#fail("the end");
      return null;
    } catch (fault) {
      if (fault instanceof Error) throw fault;
      return fault;
    }
  }

  #fail(expected) {
    throw { index: this.#at, expected };
  }

  /** Move over what matches here, and the blanks after it; return whether anything did. */
  #take(pattern) {
    const found = new RegExp(`(?:${pattern.source})`, "y");
    found.lastIndex = this.#at;
    if (!found.test(this.#text)) return false;
    this.#at = found.lastIndex;
    const blanks = /[ \t\n\r]*/y;
    blanks.lastIndex = this.#at;
    blanks.test(this.#text);
    this.#at = blanks.lastIndex;
    return true;
  }

  #value() {
    this.#take(/(?=.|\s)/);
    if (this.#take(/\{/)) return this.#items(/\}/, "a comma or }", () => this.#pair());
    if (this.#take(/\[/)) return this.#items(/\]/, "a comma or ]", () => this.#value());
    if (this.#text[this.#at] === '"') return this.#string();
    if (!this.#take(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/)) this.#fail("a value");
  }

  #items(end, expected, item) {
    if (this.#take(end)) return;
    do item();
    while (this.#take(/,/));
    if (!this.#take(end)) this.#fail(expected);
  }

  #pair() {
    if (this.#text[this.#at] !== '"') this.#fail("a name in double quotes");
    this.#string();
    if (!this.#take(/:/)) this.#fail("a colon");
    this.#value();
  }

  #string() {
    const inside = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/y;
    inside.lastIndex = this.#at;
    inside.test(this.#text);
    if (this.#text[inside.lastIndex] === '"') {
      this.#at = inside.lastIndex;
      this.#take(/"/);
      return;
    }
    this.#at = inside.lastIndex;
    this.#fail(this.#text[this.#at] === "\\" ? "an escape such as \\n" : "a closing quote");
  }
}
