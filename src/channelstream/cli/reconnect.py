"""How long a subscriber waits before it reopens its stream: the policy of docs/resume.md, "Reconnect policy"."""

from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

from channelstream.errors import CloseCode

FIRST_STEP_S = 0.5
LONGEST_STEP_S = 30.0
SPREAD_S = 3.0
"""After a restart all clients reconnect at once. Each waits a random time up to this."""
STABLE_S = 10.0
"""A stream that was open for so long resets the backoff."""
LONGEST_RETRY_AFTER_S = 300.0


@dataclass(slots=True)
class ReconnectPolicy:
    """The backoff over the streams so far. It returns upper bounds; the caller applies jitter.

    Attributes:
        opened_at: when the present stream received its first item, in seconds of any clock; None if no stream is open.
    """

    opened_at: float | None = None
    _step: int = 0
    _retried_at_once: set[int] = field(default_factory=set)

    def received(self, now: float) -> None:
        """Record that the stream is open."""
        if self.opened_at is None:
            self.opened_at = now

    def longest_s(self, code: int, now: float) -> float:
        """Return the longest wait after a stream that ended with this close code."""
        was_open = self._close_stream(now)
        is_crowded = code in (CloseCode.RESTARTING, CloseCode.OVERLOADED)
        if self._is_immediate(code, was_open) and not is_crowded:
            return 0.0
        step_s = min(LONGEST_STEP_S, FIRST_STEP_S * 2.0 ** min(self._step, 32))
        self._step += 1
        return max(SPREAD_S, step_s) if is_crowded else step_s

    def _close_stream(self, now: float) -> bool:
        """Record the end of the stream, and reset the backoff if it was stable. Return whether a stream was open."""
        opened_at, self.opened_at = self.opened_at, None
        if opened_at is not None and now - opened_at >= STABLE_S:
            self._step = 0
            self._retried_at_once.clear()
        return opened_at is not None

    def _is_immediate(self, code: int, was_open: bool) -> bool:
        """Return whether to reconnect without a wait: the server chose to end the stream, for the first time since a
        stable one.
        """
        is_planned = code == CloseCode.RESTARTING and was_open
        if code in self._retried_at_once or not (
            is_planned or code in (CloseCode.UNKNOWN_CONNECTION, CloseCode.TOO_SLOW)
        ):
            return False
        self._retried_at_once.add(code)
        if is_planned:
            self._step = 0
        return True


def retry_after_s(header: str, now: float) -> float:
    """Return the wait of a `Retry-After` (RFC 9110 section 10.2.3) in seconds, within a bound; 0 if it is unreadable.

    Args:
        now: seconds since the epoch.
    """
    if header.isascii() and header.isdigit():
        return min(float(header), LONGEST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(header)
        wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)
