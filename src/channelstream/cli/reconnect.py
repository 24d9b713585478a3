"""How long a subscriber waits before its stream is opened again: the policy of docs/resume.md, "Reconnect policy"."""

from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

from channelstream.errors import CloseCode

FIRST_STEP_S = 0.5
LONGEST_STEP_S = 30.0
SPREAD_S = 3.0
"""All clients come back from a restart at once: each waits any time up to this."""
STABLE_S = 10.0
"""A stream that was open for so long makes waits short again."""
LONGEST_RETRY_AFTER_S = 300.0


@dataclass(slots=True)
class ReconnectPolicy:
    """What is known of the streams so far; it draws no random numbers, but gives the longest waits.

    Attributes:
        opened_at: when the present stream received its first item, in seconds of any clock; None while there is none.
    """

    opened_at: float | None = None
    _step: int = 0
    _retried_at_once: set[int] = field(default_factory=set)

    def received(self, now: float) -> None:
        """Note that the stream is open."""
        if self.opened_at is None:
            self.opened_at = now

    def longest_s(self, code: int, now: float) -> float:
        """The longest wait after a stream that ended with a close code; any part of it is to be waited."""
        was_open = self._close_stream(now)
        is_crowded = code in (CloseCode.RESTARTING, CloseCode.OVERLOADED)
        if self._is_immediate(code, was_open) and not is_crowded:
            return 0.0
        step_s = min(LONGEST_STEP_S, FIRST_STEP_S * 2.0 ** min(self._step, 32))
        self._step += 1
        return max(SPREAD_S, step_s) if is_crowded else step_s

    def _close_stream(self, now: float) -> bool:
        """Forget old failures after a stable stream; whether one was open."""
        opened_at, self.opened_at = self.opened_at, None
        if opened_at is not None and now - opened_at >= STABLE_S:
            self._step = 0
            self._retried_at_once.clear()
        return opened_at is not None

    def _is_immediate(self, code: int, was_open: bool) -> bool:
        """Whether this is a decision of the server, and the first since a stable stream."""
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
    """Seconds that a `Retry-After` asks for (RFC 9110 section 10.2.3), within a bound; 0 where it says nothing.

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
