"""The errors of this client, with a common base class.

The `args` of an error are the arguments of its constructor, so it can be pickled and copied, as process pools do.
"""

from collections.abc import Sequence
from typing import Any

Faults = dict[str, Any]
"""Faults by field, nested like the body: ``{"channels": {"0": ["Not a valid string."]}}``."""


class ChannelstreamError(Exception):
    """Base of all errors of this client."""


class Unreachable(ChannelstreamError):
    """There was no answer: no connection, a broken one, a timeout, or a gateway without an answer (502, 504).

    The outcome is unknown: the call may have taken effect. The error of httpx is the `__cause__`.
    """


class BadAnswer(ChannelstreamError):
    """The answer does not have the form of channelstream's: another program, or an incompatible version."""


class BadWebhook(ChannelstreamError):
    """A request is no webhook of a server with this secret; answer 401, and do nothing else."""


class Refused(ChannelstreamError):
    """The server answered with an error. With a status below 500 the call had no effect.

    Attributes:
        status: HTTP status of the answer.
        body: the JSON of the answer, or its text if it is not JSON.
        retry_after_s: the wait that the server asks for, in seconds; None if it asks for none.
    """

    def __init__(self, status: int, body: Any, retry_after_s: float | None = None) -> None:
        super().__init__(status, body, retry_after_s)
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        said = self.body.get("error") if isinstance(self.body, dict) else None
        return f"answered {self.status}: {said or self.body}"


class Malformed(Refused):
    """400: the body was not JSON, or nested too deep."""


class BadSignature(Refused):
    """401: the secret is not the server's, or the two clocks differ by more than a minute."""


class Forbidden(Refused):
    """403: this address may not call the API (option `allow_posting_from`)."""


class NotFound(Refused):
    """404: there is no such endpoint at this address."""


class HttpsRequired(Refused):
    """406: the server has `enforce_https` on."""


class TooLarge(Refused):
    """413: the body is longer than the server's `max_body_bytes`."""


class Invalid(Refused):
    """422: the body breaks the schema.

    Attributes:
        faults: the faults by field, nested like the body.
    """

    def __init__(self, status: int, body: Any, retry_after_s: float | None = None) -> None:
        super().__init__(status, body, retry_after_s)
        self.faults: Faults = body.get("faults", body) if isinstance(body, dict) else {}


class Unavailable(Refused):
    """429 or 503: the server is full or restarting, also after all attempts."""


class CommandRefused(ChannelstreamError):
    """The server refused a command of a client with a token.

    Attributes:
        code: a word for programs, such as `forbidden`.
        retry_after_s: after how many seconds the same command may be accepted; None if it will not be.
    """

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(code, message, retry_after_s)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class PartlySent(ChannelstreamError):
    """A later request of `publish_many` failed. The messages of the earlier requests are published.

    Attributes:
        sent: the accepted messages: the first ones, in order. The rest may be sent again.
        cause: the error of the failed request. It is also the `__cause__`, which pickling drops.
    """

    def __init__(self, sent: Sequence[Any], cause: ChannelstreamError) -> None:
        super().__init__(sent, cause)
        self.sent = list(sent)
        self.cause = cause

    def __str__(self) -> str:
        return f"{len(self.sent)} messages were sent, then: {self.cause}"


class StreamClosed(ChannelstreamError):
    """The server ended a stream with a final close code.

    Attributes:
        code: the close code (docs/api.md, "Close codes").
        reason: the server's reason.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} ({self.code})" if self.reason else f"closed ({self.code})"


class UnknownConnection(StreamClosed):
    """4001: the connection is unknown or has expired, and there is no `renew` to get a new one."""


class Replaced(StreamClosed):
    """4002: a newer stream of the same connection took over."""


REFUSALS: dict[int, type[Refused]] = {
    400: Malformed,
    401: BadSignature,
    403: Forbidden,
    404: NotFound,
    406: HttpsRequired,
    413: TooLarge,
    422: Invalid,
    429: Unavailable,
    503: Unavailable,
}
"""The error class of each HTTP status; for any other status it is `Refused`."""

CLOSINGS: dict[int, type[StreamClosed]] = {4001: UnknownConnection, 4002: Replaced}
"""The error class of each close code; for any other code it is `StreamClosed`."""
