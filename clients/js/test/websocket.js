/** As much of a WebSocket as a listener needs, for a node without one (RFC 6455). */

import { randomBytes } from "node:crypto";
import { request } from "node:http";

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class TinyWebSocket {
  #socket = null;
  #rest = Buffer.alloc(0);
  #end = { code: 1006, reason: "" };

  constructor(url) {
    const headers = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
    };
    this.asking = request(url.replace(/^ws/, "http"), { headers });
    this.asking.on("upgrade", (_, socket, head) => this.#open(socket, head));
    this.asking.on("response", (response) => (response.destroy(), this.#closed()));
    this.asking.on("error", () => this.#socket || this.#closed());
    this.asking.end();
  }

  send(text) {
    this.#send(TEXT, Buffer.from(text));
  }

  close() {
    if (this.#socket) this.#send(CLOSE, Buffer.alloc(0));
    else this.asking.destroy();
  }

  #open(socket, head) {
    this.#socket = socket;
    socket.on("error", () => {});
    socket.on("close", () => this.#closed());
    socket.on("data", (data) => this.#read(data));
    this.onopen?.();
    this.#read(head);
  }

  #closed() {
    this.onclose?.(this.#end);
    this.onclose = null;
  }

  #read(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (;;) {
      const frame = parse(this.#rest);
      if (!frame) return;
      this.#rest = this.#rest.subarray(frame.end);
      if (frame.opcode === TEXT) this.onmessage({ data: frame.payload.toString() });
      if (frame.opcode === PING) this.#send(PONG, frame.payload);
      if (frame.opcode === CLOSE) this.#closing(frame.payload);
    }
  }

  #closing(payload) {
    if (payload.length) this.#end = { code: payload.readUInt16BE(0), reason: payload.subarray(2).toString() };
    this.#send(CLOSE, payload);
    this.#socket.end();
  }

  /** One masked frame; a mask of zeros leaves the payload as it is. */
  #send(opcode, payload) {
    const { length } = payload;
    const head = Buffer.alloc(14);
    const short = length < 126 ? length : length < 65_536 ? 126 : 127;
    head.writeUInt16BE(((0x80 | opcode) << 8) | 0x80 | short);
    if (short === 126) head.writeUInt16BE(length, 2);
    if (short === 127) head.writeBigUInt64BE(BigInt(length), 2);
    const end = { 126: 8, 127: 14 }[short] ?? 6;
    this.#socket.write(Buffer.concat([head.subarray(0, end), payload]));
  }
}

/** The first whole frame of what has come; null while it is not whole. */
function parse(data) {
  if (data.length < 2) return null;
  const short = data[1] & 0x7f;
  const start = { 126: 4, 127: 10 }[short] ?? 2;
  if (data.length < start) return null;
  const length = start === 2 ? short : start === 4 ? data.readUInt16BE(2) : Number(data.readBigUInt64BE(2));
  const end = start + length;
  return data.length < end ? null : { opcode: data[0] & 15, payload: data.subarray(start, end), end };
}
