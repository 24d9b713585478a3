"""Every error a stranger can see: its code, its HTTP status, its sentence; and the WebSocket close codes."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, ClassVar, Self, assert_never


class CloseCode(IntEnum):
    """Why the server closes a stream, and what the client should do.

    1xxx are RFC 6455 section 7.4.1; 4xxx are ours (docs/api.md, "Close codes").
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
Headers = Sequence[tuple[bytes, bytes]]
"""Header fields, names in lower case."""

CLOSES: Headers = ((b"connection", b"close"),)
"""Of errors behind which the connection is closed."""

OWN_KEYS = frozenset({"error", "code", "faults", "close_code"})
"""Keys of every error body. A field of such a name is only in `faults`, never at top level."""
LONGEST_NAME = 100
"""Characters of a client's own text that an error repeats."""


class ChannelstreamError(Exception):
    """Base of all errors answered to a client.

    Attributes:
        code: short stable identifier, for programs.
        http_status: status of the HTTP answer.
        message: a sentence for people, which says what to do.
        faults: what is wrong, by field; empty where it is no single field.
        faults_at_top: the same as programs for 0.7 read it, which have no key `faults`.
        headers: fields the HTTP answer carries besides the usual ones.
        close_code: how a WebSocket says the same; None where the error never ends a stream.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    close_code: CloseCode | None = None
    headers: Headers = ()

    def __init__(self, message: str, faults: Faults | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.faults: Faults = faults or {}
        self.faults_at_top = self.faults

    @property
    def body(self) -> dict[str, Any]:
        """What the JSON answer holds: one shape for all errors (docs/api.md, "Errors").

        Programs for 0.7 read faults by field at top level, so they stand there as well.
        """
        answer = {name: fault for name, fault in self.faults_at_top.items() if name not in OWN_KEYS}
        answer |= {"error": self.message, "code": self.code}
        if self.faults:
            answer["faults"] = self.faults
        if self.close_code is not None:
            answer["close_code"] = int(self.close_code)
        return answer


class Malformed(ChannelstreamError):
    """The body is not JSON."""

    code = "malformed"
    http_status = 400

    def __init__(self, fault: str, advice: str = "") -> None:
        super().__init__(f"{fault.rstrip('.')}. {advice}".rstrip(), {"_schema": [fault]})


class BadRequest(ChannelstreamError):
    """The bytes are no HTTP request that can be answered; the connection is closed."""

    code = "bad_request"
    http_status = 400
    headers = CLOSES


class BadSignature(ChannelstreamError):
    """A signature is wrong, expired, from the future or for another endpoint: one answer for all faults."""

    code = "bad_signature"
    http_status = 401

    def __init__(self) -> None:
        super().__init__(
            "Bad Signature: sign the path of the call with the server's secret, and check the clock."
        )

    @property
    def body(self) -> dict[str, Any]:
        """With the key `request`, by which 0.7.1 answered."""
        return {"request": "Bad Signature"} | super().body


class Unauthenticated(ChannelstreamError):
    """The admin's password is wrong or missing."""

    code = "unauthenticated"
    http_status = 401


class Unauthorized(ChannelstreamError):
    """A stream was asked for with an unknown or expired conn_id."""

    code = "unknown_connection"
    http_status = 401
    close_code = CloseCode.UNKNOWN_CONNECTION


class Ended(ChannelstreamError):
    """The connection was ended on purpose while a poll waited."""

    code = "connection_ended"
    http_status = 401
    close_code = CloseCode.NORMAL


class Forbidden(ChannelstreamError):
    """The caller's address, origin or missing credentials rule the request out."""

    code = "forbidden"
    http_status = 403


class NotFound(ChannelstreamError):
    code = "not_found"
    http_status = 404

    @classmethod
    def path(cls, path: str) -> Self:
        """Nothing is served at this path."""
        return cls(f"There is no {path[:LONGEST_NAME]} here: check the path against the API document.")

    @classmethod
    def method(cls, method: str, path: str, methods: Iterable[str]) -> Self:
        """The path is served, with other methods; 0.7.1 answers 404 to that, not 405."""
        return cls(f"There is no {method} {path[:LONGEST_NAME]}: use {' or '.join(methods)}.")


class MethodNotAllowed(ChannelstreamError):
    """A page is asked for by a method it does not serve."""

    code = "method_not_allowed"
    http_status = 405


class NotAcceptable(ChannelstreamError):
    """Plain HTTP was used while `enforce_https` is on (406, as the second generation answered)."""

    code = "https_required"
    http_status = 406


class TimedOut(ChannelstreamError):
    """The request took longer than it may; the connection is closed."""

    code = "request_timeout"
    http_status = 408
    headers = CLOSES


class Replaced(ChannelstreamError):
    """A newer stream of the connection took over."""

    code = "replaced"
    http_status = 409
    close_code = CloseCode.REPLACED


class TooLarge(ChannelstreamError):
    """The body is longer than it may be; what is left of it is not read."""

    code = "too_large"
    http_status = 413
    headers = CLOSES


class UnsupportedEncoding(ChannelstreamError):
    """The body is compressed, which is not read (RFC 9110, 15.5.16)."""

    code = "unsupported_encoding"
    http_status = 415
    headers = ((b"accept-encoding", b"identity"),)


class Invalid(ChannelstreamError):
    """The body is JSON and breaks the endpoint's schema; nothing has been done."""

    code = "invalid"
    http_status = 422

    def __init__(self, faults: Faults, faults_at_top: Faults | None = None) -> None:
        super().__init__(_correct(faults), faults)
        if faults_at_top is not None:
            self.faults_at_top = faults_at_top


class UpgradeRequired(ChannelstreamError):
    """The path serves WebSockets only (RFC 9110, 15.5.22)."""

    code = "upgrade_required"
    http_status = 426
    headers = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))


class HeadTooLong(ChannelstreamError):
    """The head of the request is longer than it may be; the connection is closed."""

    code = "head_too_long"
    http_status = 431
    headers = CLOSES


class TryLater(ChannelstreamError):
    """What is refused now may be asked again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.headers = ((b"retry-after", b"%d" % retry_after_s),)


class TooManyRequests(TryLater):
    code = "too_many_requests"
    http_status = 429


class Internal(ChannelstreamError):
    """The server failed, which is a fault of its own; the log has it."""

    code = "internal"
    http_status = 500

    def __init__(self) -> None:
        super().__init__(
            "The server failed to process this request; its log has the reason. The request may have taken effect."
        )


class Unavailable(TryLater):
    """The server is full, restarting, or its engine is out of reach."""

    code = "unavailable"
    http_status = 503


class UnsupportedCoding(ChannelstreamError):
    """The body has a transfer coding besides `chunked` (RFC 9112, 6.1); the connection is closed."""

    code = "unsupported_transfer_coding"
    http_status = 501
    headers = CLOSES


class Moved(Unavailable):
    """The connection has gone to another node: whoever asks again, or there, is served."""

    def __init__(self) -> None:
        super().__init__("This connection is moving to another node; try again.")


def closed(code: CloseCode, reason: str) -> ChannelstreamError:
    """Return the error by which a poll is answered where a WebSocket is closed with `code`."""
    reason = f"{reason[:1].upper()}{reason[1:]}"
    match code:
        case CloseCode.REPLACED:
            return Replaced(f"{reason}; do not reconnect this one.")
        case CloseCode.UNKNOWN_CONNECTION:
            return Unauthorized(f"{reason}; ask the application for a new conn_id.")
        case CloseCode.NORMAL:
            return Ended(f"{reason}; do not reconnect.")
        case (
            CloseCode.RESTARTING
            | CloseCode.OVERLOADED
            | CloseCode.TOO_SLOW
            | CloseCode.PROTOCOL_ERROR
            | CloseCode.UNSUPPORTED_DATA
            | CloseCode.INVALID_TEXT
            | CloseCode.POLICY_VIOLATION
            | CloseCode.TOO_BIG
        ):
            return _reconnect_later(code, reason)
        case _:
            assert_never(code)


def _reconnect_later(code: CloseCode, reason: str) -> Unavailable:
    error = Unavailable(f"{reason}; reconnect with `since` in a moment.")
    error.close_code = code
    return error


def _correct(faults: Faults) -> str:
    """Say what to do about faults: the first of them by name, the others are in `faults`."""
    path, fault = _first(faults)
    where = ".".join(path)[:LONGEST_NAME]
    more = "; `faults` has the others" if _has_more(faults) else ""
    return f"Nothing was done. Correct {where or 'the body'} and send it again: {fault.rstrip('.')}{more}."


def _first(faults: Faults) -> tuple[list[str], str]:
    """Return the way to the first fault, as it leads through the body, and its text."""
    path: list[str] = []
    found: Any = faults
    while isinstance(found, dict):
        name, inner = next(iter(found.items()))
        if name != "_schema" and not (path and name == "value" and _is_entry(found) and not _is_entry(inner)):
            path.append(name)
        found = inner
    return path, found[0]


def _is_entry(found: Any) -> bool:
    """Whether these are the faults of a key that is free, and of its value, which stand one level deeper."""
    return isinstance(found, dict) and found.keys() <= {"key", "value"}


def _has_more(faults: Faults) -> bool:
    found: Any = faults
    while isinstance(found, dict):
        if len(found) > 1:
            return True
        found = next(iter(found.values()))
    return len(found) > 1


class ConfigError(Exception):
    """An option has a wrong value; its text names option, value and what is allowed."""


class CannotListen(Exception):
    """The address is taken, or none of this machine; its text names option, address and what to do."""


class RequestFailed(Exception):
    """The server refused a request, or did not answer.

    Attributes:
        status: HTTP status of the refusal; None means no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
