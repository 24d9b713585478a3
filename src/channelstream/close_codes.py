"""The close codes of WebSockets: why the server closes a stream, and what the client must do."""

from enum import IntEnum


class CloseCode(IntEnum):
    """Why the server closes a stream, and what the client must do.

    1xxx are RFC 6455 section 7.4.1; 4xxx are ours (docs/api.md, "Close codes").
    """

    NORMAL = 1000
    """The connection was ended by `/disconnect`: stop."""
    PROTOCOL_ERROR = 1002
    """The client broke RFC 6455: stop."""
    UNSUPPORTED_DATA = 1003
    """The client sent a binary message: stop."""
    INVALID_TEXT = 1007
    """A text message was not UTF-8: stop."""
    POLICY_VIOLATION = 1008
    """The client sent too many frames, or its page is of another origin: stop."""
    TOO_BIG = 1009
    """A frame or a message was longer than allowed: stop."""
    RESTARTING = 1012
    """The server restarts: reconnect with `since` after a jittered wait."""
    OVERLOADED = 1013
    """The server is overloaded: reconnect with `since` after a jittered wait."""
    UNKNOWN_CONNECTION = 4001
    """The conn_id is unknown or expired: ask the application for a new one."""
    REPLACED = 4002
    """A newer stream of the same connection took over: stop."""
    TOKEN_EXPIRED = 4003
    """The token of the client has expired, was revoked or is not accepted: come back with a fresh one."""
    TOO_SLOW = 4008
    """The client read too slowly, and the log no longer reaches back: reconnect with `since`."""
