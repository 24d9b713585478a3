/** The transports, best first. */
export type TransportName = "websocket" | "sse" | "poll";
export type StreamState = "idle" | "connecting" | "open" | "waiting" | "asleep" | "closed";
/** The public state of a user. */
export type UserState = Record<string, string | number | boolean | null>;

interface OfServer {
  /** Id of the event; for edits and deletions the id of the message. */
  uuid: string;
  /** Position in the server's log after this event. */
  position: string;
}

/** A message; without a channel it is private. `Payload` is the content that your application sends. */
export interface Message<Payload = any> extends OfServer {
  type: "message";
  channel: string | null;
  user: string;
  message: Payload;
  timestamp: string;
  edited: string | null;
  /** The W3C trace context of the call that published it, if that call asked for it. */
  traceparent?: string;
  /** True for a message that was sent while the client was away. Only in a stream that was opened without `since`. */
  catchup?: boolean;
}

/** A message was edited. Fields that did not change are absent. */
export interface MessageEdit<Payload = any> extends OfServer {
  type: "message:edit";
  channel: string | null;
  edited: string;
  user?: string;
  message?: Payload;
  timestamp?: string;
  /** As in `Message`; absent instead of false. */
  catchup?: boolean;
}

/** A message was deleted. */
export interface MessageDelete extends OfServer {
  type: "message:delete";
  channel: string | null;
  /** As in `Message`; absent instead of false. */
  catchup?: boolean;
}

/** A user joined a channel with its first connection, or left it with its last one. */
export interface Presence extends OfServer {
  type: "presence";
  channel: string;
  user: string;
  message: { action: "joined" | "parted" };
  /** Null for a user who left. */
  state: UserState | null;
  /** All members, if the channel has `broadcast_presence_with_user_lists`. */
  users: { user: string; state: UserState }[];
  /** The list is left out, because the channel has too many members. */
  users_cut?: true;
  timestamp: string;
  catchup?: boolean;
}

export interface UserStateChange extends OfServer {
  type: "user_state_change";
  channel: string;
  user: string;
  message: { state: UserState; changed: { key: string; value: UserState[string] }[] };
  timestamp: string;
  catchup?: boolean;
}

/** Every missed event of these channels follows; "" means private messages. */
export interface Recovered {
  type: "recovered";
  channels: string[];
}

/** Events of these channels may be missing; "" means private messages. Load the channels again. */
export interface Lost {
  type: "lost";
  channels: string[];
  reason: "no longer kept" | "buffer full";
}

/** The client has left channels, since its fresh token does not grant them. */
export interface Unsubscribed {
  type: "unsubscribed";
  channels: string[];
  reason: string;
}

/** The token expires in so many seconds. The client asks `getToken` for a fresh one by itself. */
export interface Expiring {
  type: "expiring";
  seconds: number;
}

/** The application, or with a token the server, returned a connection. */
export interface Connected {
  type: "connection";
  connection: Connection;
}

export interface Opened {
  type: "open";
  transport: TransportName;
}

/** No transport is connected. The next attempt is in `retryMs`, which is null while the page is asleep. */
export interface Down {
  type: "down";
  code: number;
  reason: string;
  retryMs: number | null;
}

/** The members of a channel, or the state of a member, have changed. */
export interface RosterChange {
  type: "roster";
  channel: string;
}

/** The stream has ended for good: the close code, and the application's error if that is the cause (then 4001). */
export interface Closed {
  type: "close";
  code: number;
  reason: string;
  error?: unknown;
}

/** The items of an iteration. */
export type Item<Payload = any> =
  | Message<Payload>
  | MessageEdit<Payload>
  | MessageDelete
  | Presence
  | UserStateChange
  | Recovered
  | Lost
  | Unsubscribed
  | Expiring;
/** The events for listeners. */
export type StreamEvent<Payload = any> = Item<Payload> | Connected | Opened | Down | RosterChange | Closed;
export type EventType = StreamEvent["type"];
/** The event of a type; for "*" any event. */
export type EventOf<Type extends EventType | "*", Payload = any> = Type extends "*"
  ? StreamEvent<Payload>
  : Extract<StreamEvent<Payload>, { type: Type }>;

/** The answer of the server's /connect, which the application passes to the page. */
export interface Connection {
  conn_id: string;
  /** Position from which the stream reads; without it the stream reads new events only. */
  position?: string;
  [key: string]: unknown;
}

/** The request to the application for a connection. */
export interface Asked {
  /** The connection that has expired, if there was one. */
  expired: string | null;
  /** The last position, if there is one. Pass it to /connect, so that no event is missed. */
  since?: string;
}

export interface Options {
  /** URL of the push server, relative to the page. Default "/". */
  url?: string;
  /** The first connection, if the page already has one. */
  connection?: Connection;
  /** Get a connection from the application. Throw an error with `retry: false` to stop for good. `signal` aborts at the timeout. */
  fetchConnection?: (asked: Asked & { signal: AbortSignal }) => Connection | Promise<Connection>;
  /** Instead: URL of an endpoint of the application, relative to the page. It receives `Asked` as JSON by POST, and answers with a connection. */
  connectUrl?: string;
  /** Headers for `connectUrl`, for example a CSRF token. A function is called for each attempt. */
  connectHeaders?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Whether requests to `connectUrl` send cookies. Default "same-origin". */
  connectCredentials?: RequestCredentials;
  /** Get the /info of channels from the application. It updates the roster after a loss. */
  fetchInfo?: (channels: string[]) => Promise<object>;
  /** Instead: a token of the application, with which the stream opens a connection by itself. */
  token?: string;
  /** Get a token: the first one without `token`, and a fresh one before it expires or when it is refused. Errors as of `fetchConnection`. */
  getToken?: (options: { signal: AbortSignal }) => string | Promise<string>;
  /** Which transports to use, best first. */
  transports?: TransportName[];
  /** First step of the backoff, in milliseconds. Default 500. */
  backoffBaseMs?: number;
  /** Longest step of the backoff, in milliseconds. Default 30,000. */
  backoffCapMs?: number;
  /** Least step while the server restarts or is overloaded, in milliseconds. Default 3,000. */
  spreadMs?: number;
  /** How long a WebSocket or an event stream may take to open, in milliseconds. Default 5,000. */
  openTimeoutMs?: number;
  /** How long a stream may receive nothing, and the application may take to answer, in milliseconds. More than two heartbeats. Default 16,000. */
  silenceMs?: number;
  /** First wait before the best transport is tried again, in milliseconds. It doubles up to ten minutes. Default 30,000. */
  upgradeMs?: number;
  /** Events buffered for a slow iteration. Beyond it one `lost` replaces them. Default 1,000. */
  bufferSize?: number;
  fetch?: typeof fetch;
  /** Needed in node before version 22. */
  WebSocket?: new (url: string) => any;
}

/** The members of channels: a snapshot that events keep up to date. */
export class Roster {
  /** `changed` is called after each change of a channel. */
  constructor(changed?: (channel: string) => void);
  readonly channels: string[];
  /** The members of a channel, sorted by name. */
  users(channel: string): { user: string; state: UserState }[];
  state(user: string): UserState;
  /** Load an answer of /connect, /subscribe, /unsubscribe or /info. Channels among `names` that the answer leaves out are empty. */
  load(answer: object, names?: string[]): void;
  /** The same for an answer that is still to come. Events that are applied meanwhile override it. */
  loadLater(answer: Promise<object>, names?: string[]): Promise<void>;
  /** Apply a `presence`, `user_state_change` or `unsubscribed`. Other events change nothing. */
  apply(event: StreamEvent): void;
}

/** All channels of the connection, those that were joined, and what is known of those with a position. */
export interface Subscribed {
  channels: string[];
  subscribed: string[];
  recovered?: string[];
  lost?: string[];
}

export interface Unsubscription {
  channels: string[];
  unsubscribed: string[];
}

export interface Published {
  uuid: string;
  /** A message with this uuid is there already; nothing was sent. */
  duplicate: boolean;
}

/** A stream of events. `Payload` is the content of messages that your application sends. */
export class Channelstream<Payload = any> implements AsyncIterable<Item<Payload>> {
  /** An option that is undefined has its default. */
  constructor(options?: { [Name in keyof Options]: Options[Name] | undefined });
  readonly state: StreamState;
  readonly transport: TransportName | null;
  readonly connection?: Connection;
  readonly position: string;
  /** When the stream last received anything, heartbeats included, in milliseconds as of Date.now(). */
  readonly receivedAt: number;
  readonly roster: Roster;
  open(): this;
  /** End the stream and the connection. */
  close(): void;
  /** With a token: join channels, from positions if some are named. Promises of commands reject with an error that has a `code`. */
  subscribe(channels: string[], since?: Record<string, string>): Promise<Subscribed>;
  unsubscribe(channels: string[]): Promise<Unsubscription>;
  /** The message is published once with its uuid, which is drawn unless `globalThis.crypto` is missing. */
  publish(channel: string, message: Payload, uuid?: string): Promise<Published>;
  /** Histories and users of channels, in the form of /info. */
  info(channels: string[]): Promise<Record<string, any>>;
  /** Call `listener` for events of a type, or all ("*"), until the returned function is called. */
  on<Type extends EventType | "*">(type: Type, listener: (event: EventOf<Type, Payload>) => void): () => void;
  /** Iterate over the items from the first next() on, which opens the stream. Throws an error with the close `code` if the server ends the stream. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item<Payload>>;
}

/** Full jitter: a random wait in milliseconds, from 0 to a step that doubles up to its cap and is never below its floor. */
export function backoff(
  attempt: number,
  options?: { baseMs?: number; capMs?: number; floorMs?: number; random?: () => number },
): number;
