/** The state that the page shows: conversations and people, and how each event of the push server changes them. */

const KEPT_MESSAGES = 200;
/** How long a person counts as typing: longer than the pause between two of their announcements. */
export const TYPING_MS = 5_000;
const channelKey = (name) => `#${name}`;
const directKey = (name) => `@${name}`;

/** A conversation: a channel, or all private messages with one person. */
class Conversation {
  constructor(kind, name) {
    this.kind = kind;
    this.name = name;
    this.messages = [];
    this.unread = 0;
    this.isComplete = false;
    this.joined = kind === "direct";
    this.users = new Set();
    this.typing = new Map(); // user -> when it ends, as of Date.now()
  }

  get label() {
    return this.kind === "channel" ? this.name.replace(/^demo-/, "") : this.name;
  }

  add(message) {
    if (this.messages.some((known) => known.uuid === message.uuid)) return false;
    this.messages.push(message);
    this.messages.splice(0, this.messages.length - KEPT_MESSAGES);
    return true;
  }

  /** Whether older messages may exist: those of a channel, until there is no room or no more come. */
  get hasOlder() {
    return this.kind === "channel" && this.joined && !this.isComplete && this.messages.length < KEPT_MESSAGES;
  }

  get oldest() {
    return this.messages.find(({ kind }) => kind === "message")?.uuid;
  }

  loadOlder(history) {
    this.isComplete = history.length === 0;
    const known = new Set(this.messages.map(({ uuid }) => uuid));
    const older = history.filter(({ type, uuid }) => type === "message" && !known.has(uuid));
    this.messages = [...older.map(fromEvent), ...this.messages].slice(-KEPT_MESSAGES);
  }

  /** Add a message that may be known, at the place of its time. */
  insert(message) {
    if (this.add(message)) this.messages.sort((a, b) => (a.timestamp < b.timestamp ? -1 : Number(a.timestamp > b.timestamp)));
  }

  amend(uuid, changes) {
    const at = this.messages.findIndex((message) => message.uuid === uuid);
    if (at >= 0) this.messages[at] = { ...this.messages[at], ...changes };
  }

  remove(uuid) {
    this.messages = this.messages.filter((message) => message.uuid !== uuid);
  }
}

export class Model {
  me = "";
  current = "";
  conversations = new Map();
  statuses = new Map();
  #awaited = new Set(); // for each answer that is awaited, the events since it was asked for

  /**
   * Load an answer of the application. It describes a moment before some of the events that came while it was awaited, so
   * these are applied again.
   */
  async load(asking, take) {
    const events = [];
    this.#awaited.add(events);
    try {
      take(await asking);
    } finally {
      this.#awaited.delete(events);
    }
    for (const event of events) this.#apply(event, { isNews: false });
  }

  /** Load the application's answer to connect, at the start and after each reconnect. */
  connected(answer) {
    this.me = answer.username;
    for (const name of answer.all_channels) this.#conversation("channel", name);
    this.subscribed(answer);
    for (const event of answer.private) this.#conversationOf(event).insert(fromEvent(event));
    if (!this.conversations.has(this.current)) this.current = channelKey(answer.channels[0]);
  }

  /** Load which channels are joined, and the server's description of them. */
  subscribed(answer) {
    for (const conversation of this.channels()) conversation.joined = answer.channels.includes(conversation.name);
    this.informed(answer.channels_info);
  }

  /** Load history, people and their status from the server. */
  informed({ channels, users }) {
    for (const [name, info] of Object.entries(channels)) {
      const conversation = this.#conversation("channel", name);
      conversation.users = new Set(info.users);
      conversation.isComplete = false;
      conversation.messages = info.history.filter((event) => event.type === "message").map(fromEvent);
    }
    for (const { user, state } of users) this.statuses.set(user, state.status);
  }

  channels() {
    return [...this.conversations.values()].filter(({ kind }) => kind === "channel");
  }

  directs() {
    return [...this.conversations.values()].filter(({ kind }) => kind === "direct");
  }

  get room() {
    return this.conversations.get(this.current);
  }

  /** Show a conversation. A conversation with a person is created when it is first shown. */
  show(kind, name) {
    const conversation = this.#conversation(kind, name);
    conversation.unread = 0;
    this.current = kind === "channel" ? channelKey(name) : directKey(name);
  }

  lastOwnMessage() {
    return this.room.messages.findLast(({ user, kind }) => kind === "message" && user === this.me);
  }

  /** Apply one event of the push server. */
  apply(event) {
    for (const events of this.#awaited) events.push(event);
    this.#apply(event, { isNews: true });
  }

  #apply(event, { isNews }) {
    const handler = { message: this.#said, presence: this.#came, user_state_change: this.#changed }[event.type];
    if (handler) handler.call(this, event, isNews);
    if (event.type === "message:edit") this.#each((c) => c.amend(event.uuid, edited(event)));
    if (event.type === "message:delete") this.#each((c) => c.remove(event.uuid));
  }

  #said(event, isNews) {
    if (event.message?.typing) return this.#typed(event);
    const conversation = this.#conversationOf(event);
    const isNew = conversation.add(fromEvent(event));
    conversation.typing.delete(event.user);
    if (isNew && isNews && event.user !== this.me && conversation !== this.room) conversation.unread += 1;
  }

  /** Typing alone begins no conversation. */
  #typed({ channel, user }) {
    this.conversations.get(channel ? channelKey(channel) : directKey(user))?.typing.set(user, Date.now() + TYPING_MS);
  }

  #came({ channel, user, message, uuid, timestamp, state }) {
    const conversation = this.#conversation("channel", channel);
    const joined = message.action === "joined";
    if (joined) conversation.users.add(user);
    else conversation.users.delete(user);
    if (!joined) conversation.typing.delete(user);
    if (joined && state) this.statuses.set(user, state.status);
    conversation.add({ kind: "notice", uuid, timestamp, text: `${user} ${joined ? "joined" : "left"}` });
  }

  #changed({ user, message }) {
    this.statuses.set(user, message.state.status);
  }

  #conversationOf({ channel, user, message }) {
    if (channel) return this.#conversation("channel", channel);
    return this.#conversation("direct", user === this.me ? message.to : user);
  }

  #conversation(kind, name) {
    const key = kind === "channel" ? channelKey(name) : directKey(name);
    if (!this.conversations.has(key)) this.conversations.set(key, new Conversation(kind, name));
    return this.conversations.get(key);
  }

  #each(change) {
    for (const conversation of this.conversations.values()) change(conversation);
  }
}

function fromEvent({ uuid, user, timestamp, message, edited }) {
  return { kind: "message", uuid, user, timestamp, text: String(message?.text ?? ""), edited };
}

function edited(event) {
  return { text: String(event.message?.text ?? ""), edited: event.edited };
}
