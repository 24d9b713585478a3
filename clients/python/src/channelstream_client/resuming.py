"""`ResumingClient`: which stream to open next, from which position, and when. It does no I/O, and time is passed in.

A driver asks for the next step, does it, and reports the outcome:

    OpenStream       open a stream, or send one poll    `received` for each list, then `answered`, `ended` or `left`
    RenewConnection  ask the application                `renewed`, or `ended` with a `RenewalFailed`
    Wait             wait so long                       nothing
    Stop             raise its error, or end            nothing: it is the last step
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import urlencode

from channelstream_client.errors import CLOSINGS, ChannelstreamError, StreamClosed, Unreachable
from channelstream_client.protocol import (
    NORMAL,
    TOKEN_EXPIRED,
    UNKNOWN_CONNECTION,
    Item,
    StreamEnded,
    closing_of,
    is_closing,
    position_of,
    without_id,
)
from channelstream_client.reconnect import ReconnectPolicy

SILENCE_S = 60.0
"""A stream without any bytes for so long counts as lost. The server sends heartbeats every few seconds."""
OPEN_TIMEOUT_S = 10.0
SHORTEST_POLL_S = 1.0
"""Least time between the start of a poll without a new position and the next one: a proxy may answer at once."""
_LEAST_TIMEOUT_S = 0.001

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """A stream has ended, or did not open, and will be retried.

    Attributes:
        reason: the cause.
        code: the close code; 1006 if the server sent none.
        attempt: number of failures in a row, including this one; 1 is the end of a stream that was open.
        retry_s: time until the next attempt, in seconds.
        error: the exception of the transport or of `renew`.
        was_open: whether a stream has ended that was open; otherwise none has opened.
    """

    reason: str
    code: int
    attempt: int
    retry_s: float
    error: BaseException | None = None
    was_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a client gives up, and for how long it waits for bytes.

    Attributes:
        attempts: failures in a row after which it gives up; None means no limit.
        give_up_after_s: time without a stream after which it gives up; None means no limit.
        silence_s: how long a stream may receive no bytes.
    """

    attempts: int | None = None
    give_up_after_s: float | None = None
    silence_s: float = SILENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream(Generic[T]):
    """A step: open a stream, or send one poll.

    Attributes:
        transport: one of the client's transports.
        url: the server's address.
        conn_id: the connection.
        position: position of the last received event; empty means new events only.
        timeout_s: how long opening may take.
        silence_s: how long no bytes may arrive.
        token: of a client that acts for itself; empty for others.
    """

    transport: T
    url: str
    conn_id: str
    position: str
    timeout_s: float
    silence_s: float
    token: str = field(default="", repr=False)

    def address(self, path: str) -> str:
        """Return the address of a stream that resumes from the position."""
        # The first stream of a client with a token has no connection yet.
        query = {"conn_id": self.conn_id} if self.conn_id else {}
        return f"{self.url}{path}?{urlencode(query | {'since': self.position})}"

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of the request."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True, slots=True)
class RenewConnection:
    """A step: ask the application for a new connection, which may read from the position, or for a fresh token."""

    position: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A step: wait before the next one. `down` reports the failure before it; None between two polls."""

    wait_s: float
    down: Down | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """The last step. The error says why; None means that the connection was ended on purpose."""

    error: ChannelstreamError | None


Step = OpenStream[T] | RenewConnection | Wait | Stop


class ResumingClient(Generic[T]):
    """Follows one connection over any number of streams, by the policy of docs/resume.md.

    Attributes:
        url: the server's address.
        conn_id: the connection; `renewed` changes it.
        token: what the application returned for a client that acts for itself; empty until it has.
        position: position of the last event that was handed out.
        asked_for: the position from which the last stream or poll was opened.
        is_reading: whether the stream of the last `OpenStream` is still to be read.
        is_polling: whether the next poll continues the last one.
        leave_at: when to leave the present stream for the best transport; None means not to.
        uses_tokens: whether the application returns tokens, with which the server makes connections.
    """

    __slots__ = (
        "_can_renew",
        "_discards",
        "_has_begun",
        "_is_forgotten",
        "_is_open",
        "_limits",
        "_opened_at",
        "_policy",
        "_read_to",
        "_reported_loss",
        "_stop",
        "_transports",
        "_wait",
        "asked_for",
        "conn_id",
        "is_polling",
        "is_reading",
        "leave_at",
        "position",
        "token",
        "url",
        "uses_tokens",
    )  # fmt: skip

    def __init__(
        self,
        url: str,
        conn_id: str,
        transports: Sequence[T],
        jitter: Callable[[], float],
        *,
        position: str = "",
        can_renew: bool = False,
        uses_tokens: bool = False,
        limits: Limits = Limits(),
    ) -> None:
        """Start without a stream.

        Args:
            url: the server's address.
            transports: whatever the driver opens streams with, best first.
            jitter: returns random numbers from 0 to 1.
            position: the position to resume from.
            can_renew: whether the application returns a new connection for one that the server does not know.
            uses_tokens: whether it returns tokens instead, with which the server makes connections.
        """
        self.conn_id = conn_id
        self.token = ""
        self.uses_tokens = uses_tokens
        self.position = position
        self.is_reading = False
        self.is_polling = False
        self.leave_at: float | None = None
        self.url = url
        self._transports = transports
        self._policy = ReconnectPolicy(len(transports), jitter)
        self._can_renew = can_renew
        self._discards = False
        self._limits = limits
        self._has_begun = False
        self._is_forgotten = False
        self._is_open = False
        self._opened_at = 0.0
        self._read_to = position
        self.asked_for = position
        self._reported_loss: tuple[object, ...] | None = None
        self._wait: Wait | None = None
        self._stop: Stop | None = None

    @property
    def failures(self) -> int:
        """Number of ends in a row without a stream that opened."""
        return self._policy.failures

    def next_step(self, now: float) -> Step[T]:
        """Return what to do next.

        Args:
            now: seconds of a monotonic clock.
        """
        if not self._has_begun:
            self._has_begun = True
            self._policy.begin(now)
        if self._stop is not None:
            return self._stop
        if self._wait is not None:
            wait, self._wait = self._wait, None
            return wait
        if self._is_forgotten or (self.uses_tokens and not self.token):
            return RenewConnection(self.position)
        if self.leave_at is not None and now >= self.leave_at:  # It passed between two polls.
            self._leave(now, to_upgrade=True)
        return self._open_stream(now)

    def _open_stream(self, now: float) -> OpenStream[T]:
        if not self.is_polling:
            self._read_to = self.position
            self._reported_loss = None
            self._discards = False
        self.is_reading = True
        self.asked_for = self._read_to
        self._opened_at = now
        left_s = self._left_s(now)
        return OpenStream(
            transport=self._transports[self._policy.level],
            url=self.url,
            conn_id=self.conn_id,
            position=self._read_to,
            timeout_s=OPEN_TIMEOUT_S
            if left_s is None
            else max(_LEAST_TIMEOUT_S, min(OPEN_TIMEOUT_S, left_s)),
            silence_s=self._limits.silence_s,
            token=self.token,
        )

    # -- what came of a step

    def received(self, items: list[Item], now: float, keep: bool = True) -> list[Item]:
        """Return the items of a received list that the application gets. A `closing` item ends the stream.

        Args:
            keep: False discards the items, and all that the stream brings after them: the next stream resumes before them.
        """
        if not self.is_reading:
            return []
        if not items or not is_closing(items[0]):  # A stream that only sends its close code has not opened.
            self._on_open(now)
        wanted = [item for item in items if not is_closing(item) and self._is_wanted(item)]
        self._read_to = next(filter(None, map(position_of, reversed(items))), self._read_to)
        self._discards = self._discards or not keep
        if not self._discards:
            self.position = self._read_to
        if end := closing_of(items):
            self.ended(end, now)
        return [] if self._discards else wanted

    def _on_open(self, now: float) -> None:
        self._is_open = True
        upgrade_s = self._policy.received(now)
        if upgrade_s is not None:
            self.leave_at = now + upgrade_s

    def _is_wanted(self, item: Item) -> bool:
        """Return whether the application gets an item: not a `resumed` that a further poll of a stream repeats."""
        if item.get("type") != "resumed":
            return True
        lost = item.get("lost")
        loss = (position_of(item), *lost) if lost and isinstance(lost, list) else ()
        known, self._reported_loss = self._reported_loss, loss
        return known is None or (bool(loss) and loss != known)

    def answered(self, now: float) -> None:
        """Record the end of a poll, which the next poll continues."""
        if not self.is_reading:
            return
        self.is_reading, self.is_polling = False, True
        early_s = self._opened_at + SHORTEST_POLL_S - now
        if self._read_to == self.asked_for and early_s > 0:
            self._wait = Wait(early_s)

    def left(self, now: float, to_upgrade: bool) -> None:
        """Record that the driver closed the stream: to use the best transport, or to receive discarded items again."""
        if self.is_reading or self.is_polling:
            self._leave(now, to_upgrade)

    def _leave(self, now: float, to_upgrade: bool) -> None:
        self._close_stream()
        (self._policy.upgrade if to_upgrade else self._policy.reopen)(now)

    def renewed(self, conn_id: str, position: str = "") -> None:
        """Record the new connection, or token. A position counts if no event was received before."""
        if self.uses_tokens:
            self.token = conn_id
            return
        self.conn_id = conn_id
        self.position = self.position or position
        self._is_forgotten = False

    def ended(self, end: StreamEnded, now: float) -> None:
        """Record why a stream ended or did not open, or why there is no new connection. The first reason counts."""
        if self._wait is not None or self._stop is not None:
            return
        was_open = self._is_open
        self._close_stream()
        wait_s = self._policy.ended(end, now)
        can_renew = self._can_renew or self.uses_tokens
        if wait_s is None or (end.code == UNKNOWN_CONNECTION and not can_renew):
            error = None if end.code == NORMAL else CLOSINGS.get(end.code, StreamClosed)(end.code, end.reason)
            self._stop = _caused_by(end, error)
            return
        self._forget(end.code)
        left_s, reason = self._left_s(now), without_id(str(end))
        if left_s == 0.0 or (self._limits.attempts is not None and self.failures >= self._limits.attempts):
            text = f"{self.url}: no stream after {self.failures} attempts: {reason}"
            self._stop = _caused_by(end, Unreachable(text))
            return
        wait_s = wait_s if left_s is None else min(wait_s, left_s)
        down = Down(
            reason=reason,
            code=end.code,
            attempt=self.failures,
            retry_s=wait_s,
            error=end.__cause__,
            was_open=was_open,
        )
        self._wait = Wait(wait_s, down)

    def _forget(self, code: int) -> None:
        """Forget what the server no longer accepts."""
        if not self.uses_tokens:
            self._is_forgotten = self._is_forgotten or code == UNKNOWN_CONNECTION
        elif code == UNKNOWN_CONNECTION:
            self.conn_id = ""
        elif code == TOKEN_EXPIRED:
            self.token = ""

    def _close_stream(self) -> None:
        self.is_reading = self.is_polling = self._is_open = False
        self.leave_at = None

    def _left_s(self, now: float) -> float | None:
        """Return the seconds left of `give_up_after_s`; None means no limit."""
        if self._limits.give_up_after_s is None or self._policy.down_since is None:
            return None
        return max(0.0, self._policy.down_since + self._limits.give_up_after_s - now)


def _caused_by(end: StreamEnded, error: ChannelstreamError | None) -> Stop:
    if error is not None:
        error.__cause__ = end
    return Stop(error)
