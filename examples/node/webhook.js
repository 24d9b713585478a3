// Receives webhooks of channelstream (docs/webhooks.md), without any library: verifies each call and prints its events.
// WEBHOOK_SECRET has the server's secret, or several with blanks between them; PORT is where to listen.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const TOLERANCE_S = 300;
const MOST_BYTES = 4 << 20;
/** Standard Webhooks. With an empty key, such as of a variable that is not set, anybody could sign. */
const LEAST_KEY_BYTES = 24;

/** Return the events of a call, or null if it is not from a server with one of these secrets. `body` is the Buffer as it came. */
export function eventsOf(headers, body, secrets) {
  const { "webhook-id": id, "webhook-timestamp": sent, "webhook-signature": signature = "" } = headers;
  const signed = Buffer.concat([Buffer.from(`${id}.${sent}.`), body]);
  const shown = signature.split(" ").filter((each) => each.startsWith("v1,")).map((each) => Buffer.from(each.slice(3), "base64"));
  const keys = secrets.map((secret) => Buffer.from(secret.slice("whsec_".length), "base64")).filter((key) => key.length >= LEAST_KEY_BYTES);
  const macs = keys.map((key) => createHmac("sha256", key).update(signed).digest());
  const isGenuine = macs.some((mac) => shown.some((each) => each.length === mac.length && timingSafeEqual(each, mac)));
  const isRecent = Math.abs(Date.now() / 1000 - Number(sent)) <= TOLERANCE_S;
  return isGenuine && isRecent ? JSON.parse(body).data.events : null;
}

async function receive(request, response) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > MOST_BYTES) return response.writeHead(413, { connection: "close" }).end();
    parts.push(part);
  }
  const events = eventsOf(request.headers, Buffer.concat(parts), (process.env.WEBHOOK_SECRET ?? "").split(" "));
  for (const event of events ?? []) console.log(JSON.stringify(event));
  response.writeHead(events ? 204 : 401).end();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = createServer((request, response) => receive(request, response).catch(() => response.destroy()));
  server.listen(process.env.PORT ?? 8010, "127.0.0.1");
}
