"""The events that this node has found and cannot read, such as those of a newer version during a rolling upgrade."""

from collections import OrderedDict
from collections.abc import Iterable

from channelstream.engines.redis.event_text import Place

MAX_LOGS = 10_000
"""Logs whose last unreadable event is known. One that is forgotten closes its next reader, and is known again."""


class Skipped:
    """The last unreadable event of each log, up to which the log counts as lost.

    A client that resumes is sent first which channels are lost, and only then is anything read. Without this it would be
    sent that nothing is, its stream would end at the event, and so again with each of its next streams.
    """

    def __init__(self) -> None:
        self._offsets: OrderedDict[tuple[str, Place], int] = OrderedDict()

    def add(self, epoch: str, places: Iterable[Place], offset: int) -> None:
        """Note an unreadable event in some logs of a shard with this epoch."""
        for place in places:
            key = epoch, place
            self._offsets[key] = max(offset, self._offsets.pop(key, 0))
            if len(self._offsets) > MAX_LOGS:
                self._offsets.popitem(last=False)

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def has_after(self, epoch: str, place: Place, offset: int) -> bool:
        """Whether a log has such an event after an offset."""
        return self._offsets.get((epoch, place), 0) > offset
