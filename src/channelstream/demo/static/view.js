/** Renders the model. Names and texts become text nodes only, never HTML. */

import { byId, element, refill } from "./element.js";
import { linked } from "./links.js";
import { Scroller } from "./scroller.js";

const TOGETHER_MS = 5 * 60_000;
/** Degrees between the hues of consecutive numbers: close numbers get distant colours. */
const GOLDEN_ANGLE = 137.508;
const STATUS_WORDS = { available: "Available", away: "Away", busy: "Busy" };
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** Show an element as the avatar of a person: initials, a colour made from the name, and a dot for the status. */
export function dressAvatar(avatar, name, status) {
  const number = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7);
  avatar.style.setProperty("--hue", (number * GOLDEN_ANGLE) % 360);
  avatar.textContent = [...name].slice(0, 2).join("").toUpperCase();
  if (status) avatar.dataset.status = status;
}

function avatarOf(name, status) {
  const avatar = element("span", { className: "avatar", ariaHidden: "true" });
  dressAvatar(avatar, name, status);
  return avatar;
}

export class View {
  #model;
  #actions;
  #items = new Map();
  #shown = "";
  #scroller;

  /** @param actions show(kind, name), edit(message), remove(message), loadOlder() */
  constructor(model, actions) {
    this.#model = model;
    this.#actions = actions;
    this.#scroller = new Scroller(actions.loadOlder);
  }

  /** Show the end of the conversation, which a message of one's own leads to. */
  toEnd() {
    this.#scroller.toEnd();
  }

  render() {
    this.#rooms();
    this.#head();
    this.#messages();
    this.#people();
    this.renderTyping();
  }

  renderTyping() {
    const { typing } = this.#model.room;
    const names = [...typing].filter(([, until]) => until > Date.now()).map(([name]) => name);
    byId("typing").textContent = names.length ? `${listed(names)} typing` : "";
  }

  #rooms() {
    const directs = this.#model.directs();
    refill(byId("channels"), this.#model.channels().map((room) => this.#roomItem(room)));
    refill(byId("direct"), directs.map((room) => this.#roomItem(room)));
    byId("direct-title").hidden = directs.length === 0;
  }

  #roomItem(room) {
    const mark = room.kind === "channel" ? element("span", { className: "tag" }, "#") : this.#avatar(room.name);
    const label = element("span", { className: "label" }, room.label);
    const button = element("button", { className: room.joined ? "" : "outside" }, mark, label);
    button.dataset.key = `${room.kind}:${room.name}`;
    if (room === this.#model.room) button.ariaCurrent = "true";
    if (room.unread) button.append(unreadMark(room.unread));
    else if (!room.joined) button.append(element("span", { className: "tag" }, "not joined"));
    button.onclick = () => this.#actions.show(room.kind, room.name);
    return element("li", {}, button);
  }

  #head() {
    const { room } = this.#model;
    const direct = room.kind === "direct";
    byId("title").textContent = direct ? room.label : `# ${room.label}`;
    byId("subtitle").textContent = direct ? `Private. ${this.#statusOf(room.name)}` : headCount(room);
    byId("membership").hidden = direct;
    byId("membership").textContent = room.joined ? "Leave channel" : "Join channel";
    byId("people-toggle").hidden = direct || !room.joined;
    byId("text").placeholder = `Message ${direct ? room.label : `#${room.label}`}`;
    for (const id of ["text", "send"]) byId(id).disabled = !room.joined;
  }

  #messages() {
    const { room, current } = this.#model;
    const isOther = this.#shown !== current;
    if (isOther) this.#items.clear();
    const items = room.messages.map((message, at) => this.#messageItem(message, room.messages[at - 1]));
    this.#scroller.around(() => refill(byId("messages"), items));
    if (isOther) this.#scroller.toEnd();
    this.#scroller.offerNewest(room.messages.at(-1)?.timestamp ?? "");
    byId("empty").hidden = items.length > 0;
    byId("empty").textContent = room.joined ? "No messages yet. Write the first one." : "Join the channel to read and write.";
    this.#shown = current;
  }

  /** An element is reused while its message is the same, so that focus and the screen reader keep their position. */
  #messageItem(message, before) {
    const follows = isFollowedUp(before, message);
    const known = this.#items.get(message.uuid);
    if (known && known.message === message && known.follows === follows) return known.item;
    const item = message.kind === "notice" ? noticeItem(message) : this.#spokenItem(message, follows);
    this.#items.set(message.uuid, { message, follows, item });
    return item;
  }

  #spokenItem(message, follows) {
    const body = element("div", { className: "body" }, element("span", { className: "text" }, ...linked(message.text)));
    if (message.edited) body.append(element("span", { className: "edited" }, "edited"));
    const item = element("li", { className: follows ? "message" : "message first" });
    item.dataset.uuid = message.uuid;
    if (!follows) item.append(avatarOf(message.user), byline(message));
    item.append(body);
    if (message.user === this.#model.me) item.append(this.#tools(message));
    return item;
  }

  #tools(message) {
    const edit = element("button", { className: "quiet", onclick: () => this.#actions.edit(message) }, "Edit");
    const remove = element("button", { className: "quiet", onclick: () => this.#actions.remove(message) }, "Delete");
    edit.dataset.key = `edit:${message.uuid}`;
    remove.dataset.key = `delete:${message.uuid}`;
    return element("div", { className: "tools" }, edit, remove);
  }

  #people() {
    const { room, me } = this.#model;
    const names = room.kind === "channel" && room.joined ? [...room.users].sort((a, b) => a.localeCompare(b)) : [];
    byId("people").hidden = names.length === 0;
    byId("people-title").textContent = `People, ${names.length}`;
    byId("people-toggle").textContent = `People ${names.length}`;
    refill(byId("people-list"), names.map((name) => this.#personItem(name, name === me)));
    byId("status").value = this.#model.statuses.get(me) ?? "available";
    dressAvatar(byId("my-avatar"), me, byId("status").value);
    byId("my-name").textContent = me;
  }

  #personItem(name, isMe) {
    const label = element("span", { className: "label" }, name);
    const status = element("span", { className: "tag" }, isMe ? "you" : this.#statusOf(name));
    if (isMe) return element("li", {}, element("div", {}, this.#avatar(name), label, status));
    const button = element("button", { title: "Write privately" }, this.#avatar(name), label, status);
    button.dataset.key = `person:${name}`;
    button.onclick = () => this.#actions.show("direct", name);
    return element("li", {}, button);
  }

  #avatar(name) {
    return avatarOf(name, this.#model.statuses.get(name) ?? "unknown");
  }

  #statusOf(name) {
    return STATUS_WORDS[this.#model.statuses.get(name)] ?? "";
  }
}

function listed(names) {
  if (names.length > 2) return `${names.length} people are`;
  return names.length === 2 ? `${names[0]} and ${names[1]} are` : `${names[0]} is`;
}

function unreadMark(count) {
  return element("span", { className: "unread" }, `${count}`, element("span", { className: "visually-hidden" }, " unread"));
}

function headCount(room) {
  if (!room.joined) return "You are not in this channel.";
  return room.users.size === 1 ? "Only you are here" : `${room.users.size} people here`;
}

function isFollowedUp(before, message) {
  const close = before && asDate(message.timestamp) - asDate(before.timestamp) < TOGETHER_MS;
  return Boolean(close && before.kind === "message" && before.user === message.user);
}

function byline({ user, timestamp }) {
  const time = element("time", { dateTime: `${timestamp}Z` }, clock.format(asDate(timestamp)));
  return element("div", { className: "byline" }, element("span", { className: "author" }, user), time);
}

function noticeItem(notice) {
  const item = element("li", { className: "event" }, `${notice.text} at ${clock.format(asDate(notice.timestamp))}`);
  item.dataset.uuid = notice.uuid;
  return item;
}

/** The server's times are in UTC, without a zone. */
function asDate(timestamp) {
  return new Date(/Z|[+-]\d\d:\d\d$/.test(timestamp) ? timestamp : `${timestamp}Z`);
}
