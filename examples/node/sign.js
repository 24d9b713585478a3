// Signs a request to channelstream as a whole: what docs/security.md calls a signed request.
import { createHash, createHmac, randomBytes } from "node:crypto";

/** Return the header `authorization`. `key` is the id of a key, empty for the server's option `secret`. */
export function sign({ secret, method, target, body, key = "", ts = Math.floor(Date.now() / 1000), nonce = randomBytes(16).toString("hex") }) {
  const text = ["v1", method, target, ts, nonce, createHash("sha256").update(body).digest("hex")].join("\n");
  const sig = createHmac("sha256", secret).update(text).digest("hex");
  return `CS-HMAC-SHA256 key=${key}, ts=${ts}, nonce=${nonce}, sig=${sig}`;
}
