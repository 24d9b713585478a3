"""Every error a stranger can see: its code, its HTTP status, its sentence; and the WebSocket close codes."""

from enum import IntEnum
from typing import Any, ClassVar


class CloseCode(IntEnum):
    """Why the server closes a stream, and what the client should do.

    1xxx are RFC 6455 section 7.4.1; 4xxx are ours (docs/api.md, "Closing").
    """

    NORMAL = 1000
    """The connection has ended on purpose (`/disconnect`): stop."""
    PROTOCOL_ERROR = 1002
    """The client broke RFC 6455: stop."""
    UNSUPPORTED_DATA = 1003
    INVALID_TEXT = 1007
    """A text message was not UTF-8: stop."""
    POLICY_VIOLATION = 1008
    """The client sent too many frames: stop."""
    TOO_BIG = 1009
    """A frame or a message was longer than allowed: stop."""
    RESTARTING = 1012
    """The server restarts: come back with `since` after a jittered wait."""
    OVERLOADED = 1013
    """The server is full: come back with `since` after a jittered wait."""
    UNKNOWN_CONNECTION = 4001
    """The conn_id is unknown or expired: ask the application for a new one."""
    REPLACED = 4002
    """A newer stream of the same connection took over: stop."""
    TOO_SLOW = 4008
    """The client read too slowly and history no longer reaches back: come back with `since`."""


Faults = dict[str, Any]
"""Validation faults by field, nested like the body: ``{"channels": {"0": ["Not a valid string."]}}``."""


class ChannelstreamError(Exception):
    """Base of all errors answered to a client.

    Attributes:
        code: short stable identifier, for programs.
        http_status: status of the HTTP answer.
        body: what the JSON answer holds.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def body(self) -> Faults:
        return {"error": self.message, "code": self.code}


class Malformed(ChannelstreamError):
    """The body is not JSON."""

    code = "malformed"
    http_status = 400

    @property
    def body(self) -> Faults:
        return {"_schema": [self.message]}


class BadSignature(ChannelstreamError):
    """A signature is wrong, expired, from the future or for another endpoint: one answer for all faults."""

    code = "bad_signature"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("Bad Signature")

    @property
    def body(self) -> Faults:
        return {"request": self.message}


class Unauthorized(ChannelstreamError):
    """A stream was asked for with an unknown or expired conn_id."""

    code = "unknown_connection"
    http_status = 401


class Forbidden(ChannelstreamError):
    """The caller's address, origin or missing credentials rule the request out."""

    code = "forbidden"
    http_status = 403


class NotFound(ChannelstreamError):
    code = "not_found"
    http_status = 404


class NotAcceptable(ChannelstreamError):
    """Plain HTTP was used while `enforce_https` is on (406, as the second generation answered)."""

    code = "https_required"
    http_status = 406


class TooLarge(ChannelstreamError):
    code = "too_large"
    http_status = 413


class Invalid(ChannelstreamError):
    """The body is JSON and breaks the endpoint's schema; nothing has been done."""

    code = "invalid"
    http_status = 422

    def __init__(self, faults: Faults) -> None:
        super().__init__("The request is invalid.")
        self.faults = faults

    @property
    def body(self) -> Faults:
        return self.faults


class UpgradeRequired(ChannelstreamError):
    """The path serves WebSockets only (RFC 9110, 15.5.22)."""

    code = "upgrade_required"
    http_status = 426


class TooManyRequests(ChannelstreamError):
    code = "too_many_requests"
    http_status = 429


class Unavailable(ChannelstreamError):
    """The server is full, restarting, or its engine is out of reach: try again after `retry_after_s`."""

    code = "unavailable"
    http_status = 503

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Moved(Unavailable):
    """The connection has gone to another node: whoever asks again, or there, is served."""

    def __init__(self) -> None:
        super().__init__("This connection is moving to another node; try again.")


class Replaced(ChannelstreamError):
    """A newer stream of the connection was opened at another node before this one began."""

    code = "replaced"
    http_status = 409


class ConfigError(Exception):
    """An option has a wrong value; its text names option, value and what is allowed."""
