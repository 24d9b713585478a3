/** Ways to listen, best first. */
export type TransportName = "websocket" | "sse" | "poll";
export type StreamState = "idle" | "connecting" | "open" | "waiting" | "asleep" | "closed";
/** The public state of a user. */
export type UserState = Record<string, string | number | boolean | null>;

interface OfServer {
  /** Of the message it is about, for edits and deletions. */
  uuid: string;
  /** Where the server's log stands with this event. */
  position: string;
}

/** Something was said; without a channel it is private. `Payload` is what your application sends. */
export interface Message<Payload = any> extends OfServer {
  type: "message";
  channel: string | null;
  user: string;
  message: Payload;
  timestamp: string;
  edited: string | null;
  /** True of what was sent while the client was away, in a stream that was opened without `since` only. */
  catchup?: boolean;
}

/** A message has changed; only what was changed is there. */
export interface MessageEdit<Payload = any> extends OfServer {
  type: "message:edit";
  channel: string | null;
  edited: string;
  user?: string;
  message?: Payload;
  timestamp?: string;
  /** As in `Message`; absent where it is not true. */
  catchup?: boolean;
}

export interface MessageDelete extends OfServer {
  type: "message:delete";
  channel: string | null;
  /** As in `Message`; absent where it is not true. */
  catchup?: boolean;
}

/** A user's first connection has joined a channel, or the last one has left it. */
export interface Presence extends OfServer {
  type: "presence";
  channel: string;
  user: string;
  message: { action: "joined" | "parted" };
  /** Null for who has parted. */
  state: UserState | null;
  /** All members, where the channel has `broadcast_presence_with_user_lists`. */
  users: { user: string; state: UserState }[];
  /** They would be listed, but are too many. */
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

/** Nothing was missed of these channels; "" stands for private messages. */
export interface Recovered {
  type: "recovered";
  channels: string[];
}

/** Something may be missing of these channels; "" stands for private messages. Load them anew. */
export interface Lost {
  type: "lost";
  channels: string[];
  reason: "no longer kept" | "buffer full";
}

/** The application has given a connection. */
export interface Connected {
  type: "connection";
  connection: Connection;
}

export interface Opened {
  type: "open";
  transport: TransportName;
}

/** There is no line; the next attempt is in `retryMs`, which is null while the page is asleep. */
export interface Down {
  type: "down";
  code: number;
  reason: string;
  retryMs: number | null;
}

/** Who is in a channel, or the state of somebody there, has changed. */
export interface RosterChange {
  type: "roster";
  channel: string;
}

/** The end: a close code, and the application's error if that is why. */
export interface Closed {
  type: "close";
  code: number;
  reason: string;
  error?: unknown;
}

/** What an iteration gives. */
export type Item<Payload = any> =
  | Message<Payload>
  | MessageEdit<Payload>
  | MessageDelete
  | Presence
  | UserStateChange
  | Recovered
  | Lost;
/** What a listener may hear of. */
export type StreamEvent<Payload = any> = Item<Payload> | Connected | Opened | Down | RosterChange | Closed;
export type EventType = StreamEvent["type"];
/** The event of a type; of "*", any. */
export type EventOf<Type extends EventType | "*", Payload = any> = Type extends "*"
  ? StreamEvent<Payload>
  : Extract<StreamEvent<Payload>, { type: Type }>;

/** The answer of the server's /connect, as the application passes it on. */
export interface Connection {
  conn_id: string;
  /** Where to begin; without one the stream begins when it opens. */
  position?: string;
  [key: string]: unknown;
}

/** What the application is asked with. */
export interface Asked {
  /** The connection that has expired, if there was one. */
  expired: string | null;
  /** The last position, if there is one: hand it to /connect, so that nothing is missed. */
  since?: string;
}

export interface Options {
  /** Where the push server is; relative to the page. Default "/". */
  url?: string;
  /** The first connection, if there is one already. */
  connection?: Connection;
  /** Get a connection from the application; throw an error with `retry: false` to stop for good. `signal` ends when it takes too long. */
  fetchConnection?: (asked: Asked & { signal: AbortSignal }) => Connection | Promise<Connection>;
  /** Instead: an endpoint of the application, which is sent `Asked` as JSON by POST and answers with a connection. Relative to the page. */
  connectUrl?: string;
  /** Headers for `connectUrl`, such as a CSRF token; a function is called for each attempt. */
  connectHeaders?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Whether `connectUrl` is sent cookies. Default "same-origin". */
  connectCredentials?: RequestCredentials;
  /** Get /info about channels from the application, for the roster after a loss. */
  fetchInfo?: (channels: string[]) => Promise<object>;
  /** Which transports to use, best first. */
  transports?: TransportName[];
  /** First step of the waits, in milliseconds. Default 500. */
  backoffBaseMs?: number;
  /** Longest step, in milliseconds. Default 30,000. */
  backoffCapMs?: number;
  /** Least step of the waits while the server restarts or is overloaded, in milliseconds. Default 3,000. */
  spreadMs?: number;
  /** How long a WebSocket or an event stream may take to open, in milliseconds. Default 5,000. */
  openTimeoutMs?: number;
  /** How long a line may be silent and the application may take to answer, in milliseconds; more than two heartbeats. Default 16,000. */
  silenceMs?: number;
  /** First wait before a better transport is tried again, in milliseconds; it doubles up to ten minutes. Default 30,000. */
  upgradeMs?: number;
  /** Events kept for an iteration that is slow; beyond it they are replaced by one `lost`. Default 1,000. */
  bufferSize?: number;
  fetch?: typeof fetch;
  /** Needed in a node older than 22. */
  WebSocket?: new (url: string) => any;
}

/** Who is in which channel: a snapshot, kept right by the events after it. */
export class Roster {
  /** `changed` is called when a change is in place. */
  constructor(changed?: (channel: string) => void);
  readonly channels: string[];
  /** By name. */
  users(channel: string): { user: string; state: UserState }[];
  state(user: string): UserState;
  /** Take over an answer of /connect, /subscribe, /unsubscribe or /info; channels among `names` that it leaves out are empty. */
  load(answer: object, names?: string[]): void;
  /** The same with an answer to come; what happens until then counts more. */
  loadLater(answer: Promise<object>, names?: string[]): Promise<void>;
  /** Take over a `presence` or `user_state_change`; others change nothing. */
  apply(event: StreamEvent): void;
}

/** A stream of events; `Payload` is what your application sends as a message. */
export class Channelstream<Payload = any> implements AsyncIterable<Item<Payload>> {
  constructor(options?: Options);
  readonly state: StreamState;
  readonly transport: TransportName | null;
  readonly connection?: Connection;
  readonly position: string;
  readonly roster: Roster;
  open(): this;
  /** End the stream and the connection. */
  close(): void;
  /** Hear events of a type, or all ("*"), until the returned function is called. */
  on<Type extends EventType | "*">(type: Type, listener: (event: EventOf<Type, Payload>) => void): () => void;
  /** What the server sends from the first next() on, which opens the stream. Throws an error with the close `code` if the server ends it. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item<Payload>>;
}

/** Full jitter: a wait in milliseconds, from nothing to a step that doubles up to its cap, and is never below its floor. */
export function backoff(
  attempt: number,
  options?: { baseMs?: number; capMs?: number; floorMs?: number; random?: () => number },
): number;
