"""How many channels clients with tokens bring into being: a pattern such as `room.*` grants names without end.

A channel without connections stays for `gc_channels_after_s`, which is days, so its name is memory that a stranger in a
browser takes. Names that have a connection here are free. Others count as new, until that would be too many: only then is
the engine asked, and those that it knows are free.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from math import ceil
from typing import Final

from channelstream.core.token_buckets import TokenBuckets
from channelstream.errors import TooManyRequests

AT_ONCE: Final = 1000
"""New channels of a user at once after a pause: as many as a connection may have by default."""
PER_S: Final = 1.0
"""New channels of a user in a second besides."""

FindUnknown = Callable[[Sequence[str]], Awaitable[Collection[str]]]


class NewChannels:
    """Counts the new channels of the users of one application at this node.

    Attributes:
        refused: channels that were refused since the start.
    """

    def __init__(self, find_unknown: FindUnknown, clock: Callable[[], float]) -> None:
        """Create it.

        Args:
            find_unknown: returns those of the names that the engine does not know.
            clock: returns seconds of a clock that never jumps.
        """
        self.refused = 0
        self._find_unknown = find_unknown
        self._clock = clock
        self._users: TokenBuckets[str] = TokenBuckets(PER_S, AT_ONCE)

    async def check(self, user: str, names: Sequence[str]) -> None:
        """Count names that have no connection here and that a user's client is about to use.

        Raises:
            TooManyRequests: too many of them are new; none is counted.
            Unavailable: the engine, which is asked only then, is out of reach.
        """
        if not names or not self._take(user, len(names)):
            return
        unknown = await self._find_unknown(names)
        if unknown and (wait_s := self._take(user, len(unknown))):
            self.refused += len(unknown)
            raise TooManyRequests(
                f"A user may bring {AT_ONCE} channels into being, and then {PER_S:g} a second; try again later.",
                ceil(wait_s),
            )

    def _take(self, user: str, count: int) -> float:
        """Return 0 if a user may make so many channels now; else the seconds until then."""
        return self._users.take(user, count, self._clock())
