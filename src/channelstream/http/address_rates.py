"""What strangers may do how often in this process, by their address: open streams, show wrong credentials, fail to sign in.

An IPv6 /64 counts as one address, and so do all callers whose addresses their proxies hide (`core.addresses.source_of`).
"""

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

from channelstream.core.addresses import Networks, source_of
from channelstream.core.token_buckets import TokenBuckets
from channelstream.errors import TooManyRequests

AT_ONCE_S: Final = 100
"""An address may do as much at once as in so many seconds: a whole office comes back when a server restarts."""
FAILURES_AT_ONCE: Final = 30
"""Failed sign-ins of an address at once after a pause."""
MINUTE_S: Final = 60
ROUNDING: Final = 1e-3
"""Part of a token that the sums of very many may be wrong by."""


class AddressLimit(StrEnum):
    """What an address has a limit of; the metric `channelstream_address_limited_total` counts each."""

    STREAM = "stream"
    CREDENTIALS = "credentials"
    SIGN_IN = "sign_in"


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """Upper bounds of an address.

    Attributes:
        streams_per_s: streams that it opens in a second, and as many requests with wrong credentials; 0 means no bound.
        failures_per_minute: failed sign-ins, above 0.
        unlimited: addresses and networks that have none of these.
    """

    streams_per_s: float = 0.0
    failures_per_minute: float = 1.0
    unlimited: Collection[str] = ()


class AddressRate:
    """How often each address may do one thing."""

    def __init__(
        self,
        buckets: TokenBuckets[str],
        is_unlimited: Callable[[str], bool],
        clock: Callable[[], float],
        refused: Callable[[], None],
        text: str,
    ) -> None:
        """Create the rate of addresses that have done nothing yet.

        Args:
            buckets: one for each address.
            is_unlimited: whether an address may do it as often as it likes.
            clock: returns seconds of a clock that never jumps.
            refused: called for each refusal.
            text: why it is refused.
        """
        self._buckets = buckets
        self._is_unlimited = is_unlimited
        self._clock = clock
        self._refused = refused
        self._text = text

    def take(self, address: str) -> None:
        """Count what an address does.

        Raises:
            TooManyRequests: it does so too often.
        """
        if not self._is_unlimited(address):
            self._check(self._buckets.take(source_of(address), 1, self._clock()))

    def check(self, address: str) -> None:
        """Refuse an address that has done it too often; see `spend`.

        Raises:
            TooManyRequests: it has.
        """
        if not self._is_unlimited(address):
            self._check(self._buckets.wait_s(source_of(address), 1, self._clock()))

    def _check(self, wait_s: float) -> None:
        if wait_s:
            raise self.refusal(self._text, wait_s)

    def spend(self, address: str) -> int:
        """Count what an address has done, also if it has no limit; return how often it has done it lately."""
        source, now_s = source_of(address), self._clock()
        if self._buckets.spent(source, now_s) < self._buckets.most:
            self._buckets.spend(source, 1, now_s)
        return ceil(self._buckets.spent(source, now_s) - ROUNDING)

    def forget(self, address: str) -> None:
        """Forget what an address has done."""
        self._buckets.fill(source_of(address))

    def refusal(self, text: str, wait_s: float) -> TooManyRequests:
        """Return a refusal that is counted."""
        self._refused()
        return TooManyRequests(text, ceil(wait_s))


class AddressRates:
    """The rates of the addresses of a process.

    Attributes:
        streams: how often streams are opened; None if there is no bound.
        credentials: how often requests have credentials that are refused; likewise.
    """

    def __init__(
        self,
        limits: AddressLimits,
        clock: Callable[[], float] = time.monotonic,
        refused: Counter[str] | None = None,
    ) -> None:
        """Create rates that are not used yet.

        Args:
            clock: returns seconds of a clock that never jumps.
            refused: where refusals are counted, by `AddressLimit`.
        """
        self._limits = limits
        self._clock = clock
        self._refused = Counter() if refused is None else refused
        self._is_unlimited = Networks(limits.unlimited).has
        self.streams = self._per_second(
            AddressLimit.STREAM, "This address opens too many streams; try again later."
        )
        self.credentials = self._per_second(
            AddressLimit.CREDENTIALS, "This address has shown too many wrong credentials; try again later."
        )

    def _per_second(self, limit: AddressLimit, text: str) -> AddressRate | None:
        per_s = self._limits.streams_per_s
        if not per_s:
            return None
        buckets: TokenBuckets[str] = TokenBuckets(per_s, AT_ONCE_S * per_s)
        return self._rate(buckets, limit, text)

    def failed_sign_ins(self) -> AddressRate:
        """Return the rate of failed sign-ins to the pages of an application: one for each, whose passwords are others."""
        per_s = self._limits.failures_per_minute / MINUTE_S
        buckets: TokenBuckets[str] = TokenBuckets(per_s, FAILURES_AT_ONCE)
        return self._rate(
            buckets, AddressLimit.SIGN_IN, "Too many failed sign-ins of this address. Try again later."
        )

    def _rate(self, buckets: TokenBuckets[str], limit: AddressLimit, text: str) -> AddressRate:
        def count() -> None:
            self._refused[limit] += 1

        return AddressRate(buckets, self._is_unlimited, self._clock, count, text)
