"""How far receivers are beyond their cursors, so that the next sender does not send that again.

A cursor stays before a fact that its receiver refuses alone, while very many later ones are sent. How far these are is kept
now and then as a record by time. A record stays true, as no number of a fact is used twice: one that is old, or of a
sender that was paused, has more sent again, and nothing left out.
"""

from collections.abc import Callable, Sequence

import msgspec

from channelstream.integrations.webhooks.progress import Progress, Reached, ReachedShard
from channelstream.service import Cursor, Record, TimeSeries

EVERY_S = 10.0
"""How often it is kept of a receiver, in seconds, while its cursor stays."""
KEPT_S = 3600.0
"""How long it is kept, in seconds; after that all behind the cursor is sent again."""
KEPT_AGAIN_S = 60.0
"""Age at which the same is kept again, in seconds: a receiver that is sent nothing else stays where it is for hours."""
MOST_LEFT = 500
"""Facts of a receiver that a record names as not sent, so that it has room for them; all later ones count as not sent."""
_SERIES = "webhooks sent ahead to {}"

_decode = msgspec.msgpack.Decoder(list[tuple[int, list[int]]]).decode


class SentAhead:
    """The records of all receivers, by their names."""

    def __init__(self, series: TimeSeries, wall: Callable[[], float]) -> None:
        """Create it.

        Args:
            wall: returns epoch seconds.
        """
        self._series = series
        self._wall = wall
        self._looked: dict[str, tuple[float, Cursor]] = {}
        self._kept: dict[str, tuple[Reached, float]] = {}

    async def keep(self, receiver: str, progress: Progress, *, is_end: bool = False) -> None:
        """Keep how far a receiver is, if its cursor has stayed since the last look, `EVERY_S` ago or longer.

        Args:
            is_end: this node sends no more, so it is kept at once.

        Raises:
            Unavailable: the engine is out of reach.
        """
        now_s, cursor = self._wall(), progress.cursor
        looked_s, before = self._looked.get(receiver, (0.0, None))
        if 0 <= now_s - looked_s < EVERY_S and not is_end:
            return
        self._looked[receiver] = now_s, cursor
        if not progress.open or (cursor != before and not is_end):
            return
        reached = progress.reached(MOST_LEFT)
        kept, kept_s = self._kept.get(receiver, ((), 0.0))
        if reached != kept or is_end or now_s >= kept_s + KEPT_AGAIN_S:
            data = msgspec.msgpack.encode([(each.read, sorted(each.left)) for each in reached])
            await self._series.append(_SERIES.format(receiver), Record(now_s, data), KEPT_S)
            self._kept[receiver] = reached, now_s

    async def read(self, receiver: str) -> Reached:
        """Return how far a receiver is known to be; empty if nothing is known.

        Raises:
            Unavailable: the engine is out of reach.
        """
        records = await self._series.read(_SERIES.format(receiver), self._wall() - KEPT_S, 1)
        return _reached(records)


def _reached(records: Sequence[Record]) -> Reached:
    try:
        return tuple(
            ReachedShard(read, frozenset(left)) for record in records for read, left in _decode(record.data)
        )
    except ValueError:  # Another version has written it.
        return ()
