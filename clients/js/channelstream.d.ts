/** Ways to listen, best first. */
export type TransportName = "websocket" | "sse" | "poll";
export type StreamState = "idle" | "connecting" | "open" | "waiting" | "asleep" | "closed";

/** Any event; `type` tells which. Those of the server carry a `position`. */
export interface StreamEvent {
  type: string;
  position?: string;
  channel?: string | null;
  user?: string;
  message?: any;
  [key: string]: any;
}

/** The answer of the server's /connect, as the application passes it on. */
export interface Connection {
  conn_id: string;
  /** Where to begin; without one the stream begins when it opens. */
  position?: string;
  [key: string]: any;
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
  /** Get a connection from the application; throw an error with `retry: false` to stop for good. */
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
  /** Longest wait, in milliseconds. Default 30,000. */
  backoffCapMs?: number;
  /** Least step of the waits while the server restarts or is overloaded, in milliseconds. Default 3,000. */
  spreadMs?: number;
  /** How long a WebSocket or an event stream may take to open, in milliseconds. Default 5,000. */
  openTimeoutMs?: number;
  /** Silence after which a line is dead, in milliseconds; more than two heartbeats. Default 16,000. */
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
  constructor(changed?: (channel: string) => void);
  readonly channels: string[];
  /** By name. */
  users(channel: string): { user: string; state: Record<string, any> }[];
  state(user: string): Record<string, any>;
  /** Take over an answer of /connect, /subscribe, /unsubscribe or /info; channels among `names` that it leaves out are empty. */
  load(answer: object, names?: string[]): void;
  /** The same with an answer to come, and what is heard until then. */
  loadLater(answer: Promise<object>, names?: string[]): Promise<void>;
  apply(event: StreamEvent): void;
}

export class Channelstream implements AsyncIterable<StreamEvent> {
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
  on(type: string, listener: (event: StreamEvent) => void): () => void;
  /** What the server sends from now on; opens the stream. Throws an error with the close `code` if the server ends it. */
  [Symbol.asyncIterator](): AsyncIterableIterator<StreamEvent>;
}

/** Full jitter: a wait in milliseconds, from nothing to a step that doubles up to its cap, and is never below its floor. */
export function backoff(
  attempt: number,
  options?: { baseMs?: number; capMs?: number; floorMs?: number; random?: () => number },
): number;
