"""Delays answers to wrong admin passwords, without blocking other requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from channelstream.core.addresses import source_of
from channelstream.errors import TooManyRequests
from channelstream.pages.bounded import Bounded

FIRST_DELAY_S = 0.5
"""Delay after the first wrong password, as in 0.7. It doubles with each further one."""
LONGEST_DELAY_S = 4.0
FORGET_AFTER_S = 15 * 60
ADDRESSES = 4096
"""Most addresses whose failures are remembered. Beyond it the oldest is forgotten."""
PENDING_PER_ADDRESS = 3
RETRY_AFTER_S = 5
PENDING = 100
"""Most attempts of all addresses that wait at once."""


T = TypeVar("T")


@dataclass
class Failures:
    count: int
    latest_s: float


class Throttle:
    """Runs password checks. After each failure of a client address the delay grows.

    Attempts beyond the pending bounds are refused before the password is checked, so that guessing in
    parallel gains nothing.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._failures: Bounded[str, Failures] = Bounded(ADDRESSES)
        self._pending: dict[str, int] = {}

    async def attempt(self, address: str, check: Callable[[], T], forgives: Callable[[T], bool] = bool) -> T:
        """Return the result of `check`; a failure, which is false or None, is returned after a delay.

        Args:
            address: of the client.
            check: checks the password.
            forgives: whether a success makes the next delay of the address the first one again.

        Raises:
            TooManyRequests: too many attempts of this address, or of all, are still waiting.
        """
        source = source_of(address)
        self._enter(source)
        try:
            found = check()
            if not found:
                await self._sleep(self._delay_s(source))
            elif forgives(found):
                self._failures.pop(source, None)
            return found
        finally:
            self._leave(source)

    def _enter(self, source: str) -> None:
        pending = self._pending.get(source, 0)
        if pending >= PENDING_PER_ADDRESS or sum(self._pending.values()) >= PENDING:
            raise TooManyRequests(
                "Too many sign-in attempts at once. Try again in a few seconds.", RETRY_AFTER_S
            )
        self._pending[source] = pending + 1

    def _leave(self, source: str) -> None:
        self._pending[source] -= 1
        if not self._pending[source]:
            del self._pending[source]

    def _delay_s(self, source: str) -> float:
        now = self._clock()
        previous = self._failures.get(source)
        fresh = previous is not None and now - previous.latest_s < FORGET_AFTER_S
        count = previous.count + 1 if previous is not None and fresh else 1
        self._failures[source] = Failures(count, now)
        return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(count - 1, 10)))
