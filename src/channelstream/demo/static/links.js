/** Links in what people write: addresses of http and https only, made of text nodes. */

import { element } from "./element.js";

/** Up to a space, a quote, or a character that is invisible or turns the direction of text, and so could hide where a link leads. */
const ADDRESS = /\bhttps?:\/\/[^\s<>"\p{Cc}\p{Cf}]+/giu;
/** What ends a sentence is not of the address. */
const SENTENCE_END = /[.,:;!?'\])}]+$/u;

/** Return a text as text and links, in order. */
export function linked(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const address = trimmed(found);
    if (!URL.canParse(address)) continue;
    parts.push(text.slice(end, index), link(address));
    end = index + address.length;
  }
  return [...parts, text.slice(end)];
}

/** Without what follows the address; a bracket that it has opened is its own. */
function trimmed(found) {
  const address = found.replace(SENTENCE_END, "");
  return address.includes("(") && found[address.length] === ")" ? `${address})` : address;
}

function link(address) {
  return element("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, address);
}
