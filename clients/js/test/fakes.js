/** A server in the test's hands: each socket the client opens is told what to say. */

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
}

/** The next event of a type. */
export function heard(stream, type) {
  return new Promise((resolve) => {
    const off = stream.on(type, (event) => (off(), resolve(event)));
  });
}

/** A fetch that answers from a list, and then with the last of it. */
export function answers(...list) {
  const asked = [];
  const fetch = async (url) => {
    asked.push(new URL(url));
    await new Promise(setImmediate); // an answer takes its time
    const { status = 200, headers = {}, body = [] } = list.length > 1 ? list.shift() : list[0];
    return new Response(JSON.stringify(body), { status, headers });
  };
  return Object.assign(fetch, { asked });
}
