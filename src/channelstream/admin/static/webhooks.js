/** The receivers of webhooks, whose refused events one can give up, and those that were given up, which one can have sent again. */

import { ask } from "./ask.js";
import { columns } from "./cells.js";
import { byId, counted, element, fault, fill, link, number, time } from "./dom.js";
import { shown } from "./names.js";
import { act, keepFresh, read } from "./server.js";

/** Only those who may change things have it. */
const all = byId("all");
/** The ids of what can be sent again, and was not. */
let waiting = [];

const place = (_row, index) => index;
const receiverRow = columns("receivers", place, [
  ["Receiver", "", ({ receiver, format }) => element("div", {}, shown(receiver), format === "pusher" ? " (Pusher)" : "")],
  ["State", "", (row) => element("div", {}, element("div", {}, stateOf(row)), ...(row.refused ? [refusedOf(row)] : []))],
  ["Pending", "number", ({ pending }) => (pending === null ? "unknown" : number(pending))],
  ["Oldest", "nowrap", ({ oldest }) => (oldest ? time(oldest) : "")],
  ["Sent", "number", ({ sent }) => number(sent)],
  ["Failed calls", "number", ({ failed }) => number(failed)],
  ["Given up", "number", ({ given_up: givenUp }) => number(givenUp)],
  ["Last success", "nowrap", ({ last_success: at }) => (at ? time(at) : "")],
  ["Last failure", "", ({ last_error: error, last_error_at: at }) => (error ? element("div", {}, `${error}, ${time(at)}`) : "")],
]);

const stateOf = ({ pending, failing_since: since }) => (since ? `Failing since ${time(since)}` : pending === null ? "Not sent now" : "Sent");

function refusedOf({ id, refused, held_up: heldUp }) {
  const line = element("div", {}, `${counted(refused, "event")} refused${heldUp ? ", so others wait" : ""} `);
  if (!all) return line;
  const button = element("button", { className: "quiet", type: "button" }, "Give up");
  button.dataset.receiver = id;
  line.append(button);
  return line;
}

const refusedRow = columns("refused", place, [
  ["Since", "nowrap", ({ since }) => time(since)],
  ["Event", "", (event) => eventOf(event)],
  ["Receiver", "", ({ receiver }) => shown(receiver)],
  ["Why", "", ({ reason }) => reason],
  ["Behind", "number", ({ behind }) => number(behind)],
]);

/** The type of an event, and what it is about. */
function eventOf({ type, channel, user }) {
  return element("div", {}, type, ...(channel === null ? [] : [" ", link("channel", channel)]), ...(user === null ? [] : [" ", link("user", user)]));
}

const letterRow = columns("letters", ({ id }) => id, [
  ["Given up", "nowrap", ({ at }) => time(at)],
  ["Event", "", (letter) => eventOf(letter)],
  ["Happened", "nowrap", ({ happened }) => time(happened)],
  ["Receiver", "", ({ receiver }) => (receiver ? shown(receiver) : "no receiver any more")],
  ["Why", "", ({ reason }) => reason],
  ["Again", "", (letter) => againOf(letter)],
]);

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
