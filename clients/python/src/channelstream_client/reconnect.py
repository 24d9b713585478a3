"""When to reopen a stream, and by which transport: the policy of docs/resume.md, "Reconnect policy".

This module does no I/O and does not wait; the caller passes the time.
"""

import math
from collections.abc import Callable

from channelstream_client.protocol import (
    LOST,
    OVERLOADED,
    REPLACED,
    RESTARTING,
    SLOW,
    TOKEN_EXPIRED,
    UNKNOWN_CONNECTION,
    RenewalFailed,
    StreamEnded,
)

FINAL = frozenset({1000, 1002, 1003, 1007, 1008, 1009, 4002})
"""Close codes after which a client does not reconnect."""
FIRST_STEP_S = 0.5
LONGEST_STEP_S = 30.0
SPREAD_S = 3.0
"""After a restart all clients reconnect at once. Each waits a random time up to this."""
STABLE_S = 10.0
"""A stream that receives bytes so long after it opened is stable, and resets the backoff."""
LONGEST_RETRY_AFTER_S = 300.0
TRIES = 3
"""Failures in a row after which a transport that has worked is left for the next one."""
GHOST_S = 30.0
"""How long after a lost stream a close with 4002 is not final.

The request of a stream that was closed here may still reach the server, and replace a newer stream of this client.
"""
FIRST_UPGRADE_S = 30.0
LONGEST_UPGRADE_S = 600.0


class ReconnectPolicy:
    """The state of backoff and transport choice, over the streams so far.

    Attributes:
        level: index of the transport to use; 0 is the best.
        failures: ends in a row without a stream that opened.
        down_since: time of the first of them; None while a stream is open.
    """

    __slots__ = (
        "_ghost_until", "_jitter", "_opened_at", "_proven", "_received_at", "_retried_at_once", "_step", "_transports",
        "_tries", "_upgrade_s", "down_since", "failures", "level",
    )  # fmt: skip

    def __init__(self, transports: int, jitter: Callable[[], float]) -> None:
        """Start without a stream.

        Args:
            transports: number of transports.
            jitter: returns random numbers from 0 to 1.
        """
        self.level = 0
        self.failures = 0
        self.down_since: float | None = None
        self._transports = transports
        self._jitter = jitter
        self._step = 0
        self._tries = 0
        self._proven: set[int] = set()
        self._retried_at_once: set[int] = set()
        self._opened_at: float | None = None
        self._received_at = 0.0
        self._ghost_until = -math.inf
        self._upgrade_s = FIRST_UPGRADE_S

    def begin(self, now: float) -> None:
        """Record that the first stream is to be opened.

        Args:
            now: seconds of a monotonic clock, here and below.
        """
        self.down_since = now

    def received(self, now: float) -> float | None:
        """Record that a stream is open and received bytes.

        Returns:
            If a stream opens on a transport that is not the best: the seconds until the best is tried again. Otherwise None.
        """
        self._received_at = now
        if self._opened_at is not None:
            return None
        self._opened_at = now
        self._proven.add(self.level)
        self.failures = 0
        self.down_since = None
        return self._next_upgrade_s() if self.level else None

    def _next_upgrade_s(self) -> float:
        wait_s = self._upgrade_s * (0.5 + self._jitter() / 2)
        self._upgrade_s = min(LONGEST_UPGRADE_S, self._upgrade_s * 2)
        return wait_s

    def upgrade(self, now: float) -> None:
        """Record that the client closed the stream to try the best transport. One failure falls back again."""
        self.reopen(now)
        self.level = 0
        self._tries = TRIES - 1

    def reopen(self, now: float) -> None:
        """Record that the client closed the stream to open another one at once."""
        self._close_stream(now)
        self._ghost_until = now + GHOST_S

    def ended(self, end: StreamEnded, now: float) -> float | None:
        """Return the seconds until the next stream; None means not to reconnect."""
        was_open = self._close_stream(now)
        code = SLOW if end.code == REPLACED and now < self._ghost_until else end.code
        self._ghost_until = now + GHOST_S if code == LOST else now
        if code in FINAL:
            return None
        self.failures += 1
        is_crowded = code in (RESTARTING, OVERLOADED)
        is_immediate = self._is_immediate(code, was_open)
        # A close code of the server proves that the transport works. An HTTP status may come from a proxy.
        is_failure = end.status is not None if is_crowded else code < UNKNOWN_CONNECTION
        is_left = is_failure and not isinstance(end, RenewalFailed) and self._leave_transport()
        if not is_crowded and (is_immediate or is_left):
            return 0.0
        return min(end.retry_after_s, LONGEST_RETRY_AFTER_S) + self._wait_s(is_crowded)

    def _close_stream(self, now: float) -> bool:
        """Record the end of the stream, and reset the backoff if it was stable. Return whether a stream was open."""
        if self._opened_at is None:
            return False
        if self._received_at - self._opened_at >= STABLE_S:
            self._step = self._tries = 0
            self._retried_at_once.clear()
            if not self.level:
                self._upgrade_s = FIRST_UPGRADE_S
        self._opened_at = None
        self.down_since = now
        return True

    def _is_immediate(self, code: int, was_open: bool) -> bool:
        """Return whether to reconnect at once: the server chose to end the stream, the first time since a stable one."""
        if code not in (UNKNOWN_CONNECTION, TOKEN_EXPIRED, SLOW) and not (code == RESTARTING and was_open):
            return False
        if code in self._retried_at_once:
            return False
        self._retried_at_once.add(code)
        if code == RESTARTING:
            self._step = 0
        return True

    def _leave_transport(self) -> bool:
        """Count a failure of the transport. Return whether to try the next transport at once."""
        self._tries += 1
        if self._tries < (TRIES if self.level in self._proven else 1):
            return False
        self._tries = 0
        self.level = (self.level + 1) % self._transports
        return self.level > 0

    def _wait_s(self, is_crowded: bool) -> float:
        step_s = min(LONGEST_STEP_S, FIRST_STEP_S * 2.0 ** min(self._step, 32))
        self._step += 1
        return self._jitter() * max(SPREAD_S if is_crowded else 0.0, step_s)
