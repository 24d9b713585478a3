"""How many channels clients bring into being: a pattern such as `room.*` grants names without end, and Pusher's public
channels need no grant. There every line is a user of its own, so that addresses are counted as well.

A channel without connections stays for `gc_channels_after_s`, which is days, so its name is memory that a client takes; one
in which only lines of Pusher were, and which had no event, stays as long as they do (`Channel.is_brief`). Names that have a
connection here are free. Others count as new, until that would be too many: only then is the engine asked, and those that it
knows are free.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from math import ceil
from typing import Final, NamedTuple

from channelstream.core.token_buckets import TokenBuckets
from channelstream.errors import TooManyRequests


class Measure(NamedTuple):
    """How many channels one may bring into being.

    Attributes:
        counted: who, as a refusal says it.
        at_once: after a pause.
        per_s: in a second besides.
    """

    counted: str
    at_once: int
    per_s: float


OF_USER: Final = Measure("A user", 1_000, 1.0)
"""At once as many as a connection may have by default."""
OF_ADDRESS: Final = Measure("An address", 20_000, 10.0)
"""At once as many as it may open streams by default. In a second it has more than a user, since its channels are brief: each
of the many pages behind an address may be alone in its channels, which are then new whenever it is loaded."""

FindUnknown = Callable[[Sequence[str]], Awaitable[Collection[str]]]


class NewChannels:
    """Counts the new channels of the users, or of the addresses, of the clients of one application at this node.

    Attributes:
        refused: channels that were refused since the start.
    """

    def __init__(
        self,
        find_unknown: FindUnknown,
        clock: Callable[[], float],
        measure: Measure = OF_USER,
    ) -> None:
        """Create counts of no channels.

        Args:
            find_unknown: returns those of the names that the engine does not know.
            clock: returns seconds of a clock that never jumps.
            measure: of each user, or address.
        """
        self.refused = 0
        self._find_unknown = find_unknown
        self._clock = clock
        self._measure = measure
        self._buckets: TokenBuckets[str] = TokenBuckets(measure.per_s, measure.at_once)

    async def check(self, who: str, names: Sequence[str]) -> None:
        """Count names that have no connection here and that a client is about to use.

        Args:
            who: its user, or its address.

        Raises:
            TooManyRequests: too many of them are new; none is counted.
            Unavailable: the engine, which is asked only then, is out of reach.
        """
        if not names or not self._take(who, len(names)):
            return
        unknown = await self._find_unknown(names)
        if unknown and (wait_s := self._take(who, len(unknown))):
            self.refused += len(unknown)
            counted, at_once, per_s = self._measure
            raise TooManyRequests(
                f"{counted} may bring {at_once} channels into being, and then {per_s:g} a second;"
                " try again later.",
                ceil(wait_s),
            )

    def _take(self, who: str, count: int) -> float:
        """Return 0 if one may make so many channels now; else the seconds until then."""
        return self._buckets.take(who, count, self._clock())
