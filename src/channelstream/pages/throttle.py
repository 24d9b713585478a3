"""Delays answers to wrong admin passwords, without blocking other requests."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from channelstream.core.addresses import source_of
from channelstream.http.address_rates import AddressRate

FIRST_DELAY_S = 0.5
"""Delay after the first wrong password, as in 0.7. It doubles with each further one that is not forgotten yet."""
LONGEST_DELAY_S = 4.0
PENDING_PER_ADDRESS = 3
RETRY_AFTER_S = 5
PENDING = 100
"""Most attempts of all addresses that wait at once."""


T = TypeVar("T")


class Throttle:
    """Runs password checks. After each failure of a client address the delay grows, until it has had too many of them.

    Attempts beyond the bounds, also of those that wait, are refused before the password is checked, so that guessing in
    parallel gains nothing.
    """

    def __init__(
        self, failures: AddressRate, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._failures = failures
        self._sleep = sleep
        self._pending: dict[str, int] = {}

    async def attempt(self, address: str, check: Callable[[], T], forgives: Callable[[T], bool] = bool) -> T:
        """Return the result of `check`; a failure, which is false or None, is returned after a delay.

        Args:
            address: of the client.
            check: checks the password.
            forgives: whether a success makes the next delay of the address the first one again.

        Raises:
            TooManyRequests: too many attempts of this address, or of all, are still waiting, or it has failed too often.
        """
        source = source_of(address)
        self._enter(source)
        try:
            self._failures.check(address)
            found = check()
            if not found:
                await self._sleep(delay_s(self._failures.spend(address)))
            elif forgives(found):
                self._failures.forget(address)
            return found
        finally:
            self._leave(source)

    def _enter(self, source: str) -> None:
        pending = self._pending.get(source, 0)
        if pending >= PENDING_PER_ADDRESS or sum(self._pending.values()) >= PENDING:
            raise self._failures.refusal(
                "Too many sign-in attempts at once. Try again in a few seconds.", RETRY_AFTER_S
            )
        self._pending[source] = pending + 1

    def _leave(self, source: str) -> None:
        self._pending[source] -= 1
        if not self._pending[source]:
            del self._pending[source]


def delay_s(failures: int) -> float:
    """Return the delay of the last one of so many failures."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 10)))
