"""Every error: those that a client can see, with code, status and text; at the end those that end a process or a command."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self, assert_never

from channelstream.close_codes import CloseCode
from channelstream.faults import LONGEST_NAME, Faults, correction

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields, names in lower case."""

CLOSES: Headers = ((b"connection", b"close"),)
"""Headers of errors after which the connection is closed."""

OWN_KEYS = frozenset({"error", "code", "faults", "close_code"})
"""Keys of error bodies. The faults of a field with such a name are only in `faults`, not at top level."""

RETRY_S = 1
"""`Retry-After` of a request that may be repeated soon, in seconds."""
OVERLOADED_RETRY_S = 5
"""`Retry-After` of a process that sheds load, in seconds: a connection lives that long without a stream."""


class ChannelstreamError(Exception):
    """Base of all errors answered to a client.

    Attributes:
        code: short stable identifier, for programs.
        http_status: status of the HTTP answer.
        message: a sentence for people, which says what to do.
        faults: the faults by field; empty if they are not about fields.
        faults_at_top: the faults at top level, for programs for 0.7, which do not know the key `faults`.
        headers: fields of the HTTP answer besides the usual ones.
        close_code: the close code with the same meaning; None if the error never ends a stream.
        refusal_code: the close code of a WebSocket that the error refuses right after its handshake. Unless a class says
            otherwise, the client keeps its connection and reconnects later.
        note: what the log says of it besides the code, for the operator; never answered. Text of a client in it is
            quoted and short.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    close_code: CloseCode | None = None
    refusal_code: int = CloseCode.OVERLOADED
    headers: Headers = ()
    note = ""

    def __init__(self, message: str, faults: Faults | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.faults: Faults = faults or {}
        self.faults_at_top = self.faults

    @property
    def body(self) -> dict[str, Any]:
        """The JSON answer, with the same keys for all errors (docs/api.md, "Errors").

        Faults by field are at top level as well, for programs for 0.7.
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
    """The bytes are not a valid HTTP request; the connection is closed."""

    code = "bad_request"
    http_status = 400
    headers = CLOSES


class BadHandshake(ChannelstreamError):
    """The request is not a valid WebSocket handshake (RFC 6455)."""

    code = "bad_handshake"
    http_status = 400


class UnsupportedVersion(BadHandshake):
    """The client uses another version; the answer names ours (RFC 6455 section 4.4; RFC 9110 section 15.5.22)."""

    code = "unsupported_websocket_version"
    http_status = 426
    headers = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))


class BadSignature(ChannelstreamError):
    """A signature, or its key, is wrong, expired, from the future or for something else: one answer for all faults.

    Args:
        signed_with: the secrets that sign such a call, as their options are named.
    """

    code = "bad_signature"
    http_status = 401

    def __init__(self, signed_with: str = "the `secret` of the server, or one of its keys") -> None:
        super().__init__(
            f"Bad Signature: sign this call as it is sent, with {signed_with}, and check the clock."
        )

    @property
    def body(self) -> dict[str, Any]:
        """The JSON answer, with the key `request` of 0.7.1."""
        return {"request": "Bad Signature"} | super().body


class BadToken(ChannelstreamError):
    """A client's token is not accepted: one answer for all faults but its length, unless its signer is known."""

    code = "bad_token"
    http_status = 401
    close_code = CloseCode.TOKEN_EXPIRED
    refusal_code = CloseCode.TOKEN_EXPIRED

    def __init__(self, message: str = "The token is not accepted: get a fresh one.", note: str = "") -> None:
        super().__init__(message)
        self.note = note


class Unauthenticated(ChannelstreamError):
    """The admin's password is wrong or missing."""

    code = "unauthenticated"
    http_status = 401


class Unauthorized(ChannelstreamError):
    """A stream was requested with an unknown or expired conn_id."""

    code = "unknown_connection"
    http_status = 401
    close_code = CloseCode.UNKNOWN_CONNECTION
    refusal_code = CloseCode.UNKNOWN_CONNECTION


class Refused(ChannelstreamError):
    """A WebSocket is refused with a close code of its protocol."""

    code = "refused"
    http_status = 403

    def __init__(self, refusal_code: int, message: str) -> None:
        super().__init__(message)
        self.refusal_code = refusal_code


class Ended(ChannelstreamError):
    """The connection was ended by `/disconnect` while a poll waited."""

    code = "connection_ended"
    http_status = 401
    close_code = CloseCode.NORMAL
    refusal_code = CloseCode.NORMAL


class Forbidden(ChannelstreamError):
    """The caller's address, origin or missing credentials do not allow the request."""

    code = "forbidden"
    http_status = 403
    refusal_code = CloseCode.POLICY_VIOLATION


class OverreachingToken(Forbidden):
    """A client's token claims what the key that signed it has no right to grant."""

    close_code = CloseCode.TOKEN_EXPIRED
    refusal_code = CloseCode.TOKEN_EXPIRED


class NotFound(ChannelstreamError):
    code = "not_found"
    http_status = 404

    @classmethod
    def path(cls, path: str) -> Self:
        """Nothing is served at this path."""
        return cls(f"There is no {path[:LONGEST_NAME]} here: check {_to_check(path)}.")

    @classmethod
    def method(cls, method: str, path: str, methods: Iterable[str]) -> Self:
        """The path has other methods; 404 and not 405, as in 0.7.1."""
        return cls(f"There is no {method} {path[:LONGEST_NAME]}: use {' or '.join(methods)}.")


def _to_check(path: str) -> str:
    """Return what to check of a path at which nothing is served; a prefix may precede those of Pusher."""
    if "/apps/" in path:
        return "the path against docs/pusher.md, which has those of Pusher's SDKs"
    if path.startswith("/app/"):
        return "the id of the application, and the path after it against the API document"
    return "the path against the API document"


class MethodNotAllowed(ChannelstreamError):
    """A page was requested with a method that it does not have."""

    code = "method_not_allowed"
    http_status = 405


class NotAcceptable(ChannelstreamError):
    """Plain HTTP was used while `enforce_https` is on (406, as in the second generation)."""

    code = "https_required"
    http_status = 406


class TimedOut(ChannelstreamError):
    """The request took too long; the connection is closed."""

    code = "request_timeout"
    http_status = 408
    headers = CLOSES


class Replaced(ChannelstreamError):
    """A newer stream of the connection took over."""

    code = "replaced"
    http_status = 409
    close_code = CloseCode.REPLACED
    refusal_code = CloseCode.REPLACED


class TooLarge(ChannelstreamError):
    """The body is too long; the rest of it is not read."""

    code = "too_large"
    http_status = 413
    headers = CLOSES


class UnsupportedEncoding(ChannelstreamError):
    """The body is compressed, which is not supported (RFC 9110, 15.5.16)."""

    code = "unsupported_encoding"
    http_status = 415
    headers = ((b"accept-encoding", b"identity"),)


class TooLong(ChannelstreamError):
    """The data of an event is too long; nothing was done."""

    code = "too_long"
    http_status = 413


class Invalid(ChannelstreamError):
    """The body does not match the schema of the call; nothing was done."""

    code = "invalid"
    http_status = 422
    refusal_code = CloseCode.UNKNOWN_CONNECTION

    def __init__(self, faults: Faults, faults_at_top: Faults | None = None) -> None:
        super().__init__(correction(faults), faults)
        if faults_at_top is not None:
            self.faults_at_top = faults_at_top


class BadShape(Invalid):
    """The body or the query does not match what the call takes; nothing was done.

    The SDKs of Pusher expect 400. That of .NET reads the key `channels` of every answer as an object, so no fault is at top
    level.
    """

    http_status = 400

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults, {})


class UpgradeRequired(ChannelstreamError):
    """The path serves WebSockets only (RFC 9110, 15.5.22)."""

    code = "upgrade_required"
    http_status = 426
    headers = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))


class HeadTooLong(ChannelstreamError):
    """The head of the request is too long, or has too many headers; the connection is closed."""

    code = "head_too_long"
    http_status = 431
    headers = CLOSES


class TryLater(ChannelstreamError):
    """A request that may be repeated after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int = RETRY_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.headers = ((b"retry-after", b"%d" % retry_after_s),)


class TooManyRequests(TryLater):
    code = "too_many_requests"
    http_status = 429


class Internal(ChannelstreamError):
    """An internal error; the log has its traceback."""

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
    refusal_code = CloseCode.RESTARTING


class Overloaded(Unavailable):
    """The process sheds load: it takes no new connections, streams and long replays now."""

    close_code = CloseCode.OVERLOADED
    refusal_code = CloseCode.OVERLOADED

    def __init__(self) -> None:
        super().__init__("The server has too much load; try again later.", OVERLOADED_RETRY_S)


class UnsupportedCoding(ChannelstreamError):
    """The body has a transfer coding besides `chunked` (RFC 9112, 6.1); the connection is closed."""

    code = "unsupported_transfer_coding"
    http_status = 501
    headers = CLOSES


class Moved(Unavailable):
    """The connection is moving between nodes: the request can be repeated at any node."""

    def __init__(self) -> None:
        super().__init__("This connection is moving to another node; try again.")


def closed(code: CloseCode, reason: str) -> ChannelstreamError:
    """Return the error that answers a poll where a WebSocket is closed with `code`."""
    reason = f"{reason[:1].upper()}{reason[1:].rstrip('.')}"
    match code:
        case CloseCode.REPLACED:
            return Replaced(f"{reason}; do not reconnect this one.")
        case CloseCode.UNKNOWN_CONNECTION:
            return Unauthorized(f"{reason}; ask the application for a new conn_id.")
        case CloseCode.TOKEN_EXPIRED:
            return BadToken(f"{reason}; come back with a fresh token.")
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
    retry_after_s = OVERLOADED_RETRY_S if code is CloseCode.OVERLOADED else RETRY_S
    error = Unavailable(f"{reason}; reconnect with `since` in a moment.", retry_after_s)
    error.close_code = code
    return error


class ConfigError(Exception):
    """What the command line or an option says cannot be used; the text names it, and what is allowed or what to do.

    That is a value, or what a value names: a file, an address to listen on, the Redis of the engine.
    """


class CannotHandOver(Exception):
    """The process cannot hand its work over to another one; the text says why."""


class PeerEnded(CannotHandOver):
    """The other process of a hand-over has ended; or a server that was asked to upgrade has ended, or stops."""


class RequestFailed(Exception):
    """The server refused a request, or did not answer.

    Attributes:
        status: HTTP status of the refusal; None means no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class StdoutFailed(Exception):
    """A command cannot write to stdout. No `OSError`, which argparse ignores where it prints a help.

    Attributes:
        is_unread: it goes to a pipe whose reader has gone, as `head` does.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.is_unread = isinstance(error, BrokenPipeError)
