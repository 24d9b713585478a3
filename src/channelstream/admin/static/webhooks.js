/** The receivers of webhooks, whose refused events one can give up, and those that were given up, which one can have sent again. */

import { ask } from "./ask.js";
import { byId, cell, counted, element, fault, fill, link, number, time } from "./dom.js";
import { shown } from "./names.js";
import { act, keepFresh, read } from "./server.js";

/** Only those who may change things have it. */
const all = byId("all");
/** The ids of what can be sent again, and was not. */
let waiting = [];

function receiverRow(row, index) {
  const { receiver, format, pending, oldest, sent, failed, given_up: givenUp, refused } = row;
  return element(
    "tr",
    { key: index },
    cell("", element("div", {}, shown(receiver), format === "pusher" ? " (Pusher)" : "")),
    cell("", element("div", {}, element("div", {}, stateOf(row)), ...(refused ? [refusedOf(row)] : []))),
    cell("number", pending === null ? "unknown" : number(pending)),
    cell("nowrap", oldest ? time(oldest) : ""),
    cell("number", number(sent)),
    cell("number", number(failed)),
    cell("number", number(givenUp)),
    cell("nowrap", row.last_success ? time(row.last_success) : ""),
    cell("", ...(row.last_error ? [element("div", {}, `${row.last_error}, ${time(row.last_error_at)}`)] : [])),
  );
}

const stateOf = ({ pending, failing_since: since }) => (since ? `Failing since ${time(since)}` : pending === null ? "Not sent now" : "Sent");

function refusedOf({ id, refused, held_up: heldUp }) {
  const line = element("div", {}, `${counted(refused, "event")} refused${heldUp ? ", so others wait" : ""} `);
  if (!all) return line;
  const button = element("button", { className: "quiet", type: "button" }, "Give up");
  button.dataset.receiver = id;
  line.append(button);
  return line;
}

function refusedRow(event, index) {
  return element(
    "tr",
    { key: index },
    cell("nowrap", time(event.since)),
    cell("", eventOf(event)),
    cell("", shown(event.receiver)),
    cell("", event.reason),
    cell("number", number(event.behind)),
  );
}

/** The type of an event, and what it is about. */
function eventOf({ type, channel, user }) {
  return element("div", {}, type, ...(channel === null ? [] : [" ", link("channel", channel)]), ...(user === null ? [] : [" ", link("user", user)]));
}

function letterRow(letter) {
  const { id, at, happened, receiver, reason } = letter;
  return element(
    "tr",
    { key: id },
    cell("nowrap", time(at)),
    cell("", eventOf(letter)),
    cell("nowrap", time(happened)),
    cell("", receiver ? shown(receiver) : "no receiver any more"),
    cell("", reason),
    cell("", againOf(letter)),
  );
}

function againOf({ id, sent_again: again, can_be_sent: possible }) {
  if (again) return `sent ${time(again)}`;
  if (!possible) return "not possible";
  if (!all) return "";
  const button = element("button", { className: "quiet", type: "button" }, "Send again");
  button.dataset.letter = id;
  return button;
}

async function refresh() {
  try {
    const { sender, receivers, refused, letters } = await read("/data/webhooks");
    byId("sender").textContent = sender ? `Sent by ${sender}` : "";
    fill("receivers", receivers.map(receiverRow), { none: "None: the options webhook_urls and pusher_webhook_urls name receivers." });
    fill("refused", refused.map(refusedRow));
    byId("refused-panel").hidden = !refused.length;
    fill("letters", letters.map(letterRow), { none: "Nothing was given up." });
    waiting = letters.filter((letter) => letter.can_be_sent && !letter.sent_again).map(({ id }) => id);
    if (all) all.hidden = waiting.length < 2;
    fault("");
  } catch (error) {
    fault(error.message);
    return false;
  }
}

async function actAndNote(name, what, noteOf) {
  try {
    byId("letters-note").textContent = noteOf(await act(name, what));
  } catch (error) {
    fault(error.message);
    return;
  }
  now();
}

async function sendAgain(ids) {
  const lines = ["Each goes to the receiver that did not accept it. What has happened since is sent before it."];
  if (!(await ask(`Send ${counted(ids.length, "event")} again?`, lines, "Send again"))) return;
  actAndNote("send_webhooks_again", { ids }, ({ sent }) => `${counted(sent, "event")} will be sent.`);
}

async function giveUp(receiver) {
  const lines = ["They can be sent again below. What waits behind them in their channels is sent."];
  if (!(await ask("Give up the events that this receiver refuses?", lines, "Give up"))) return;
  actAndNote("give_up_webhooks", { receiver }, ({ given_up: count }) => `${counted(count, "event")} will be given up.`);
}

// Rows are kept when the page is refreshed, so no button has a listener of its own.
byId("receivers").addEventListener("click", ({ target }) => target.dataset.receiver && giveUp(target.dataset.receiver));
byId("letters").addEventListener("click", ({ target }) => target.dataset.letter && sendAgain([target.dataset.letter]));
all?.addEventListener("click", () => sendAgain(waiting));
const now = keepFresh(refresh);
