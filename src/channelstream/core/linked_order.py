"""Items in the order of their last change: logs by their last append, users and channels by when they became idle.

Each item refers to its two neighbours, so a change costs the same however many there are. An `OrderedDict` would be
copied now and then as it grows or is changed: 15 to 20 ms in one event loop turn for 100,000 logs, 12 ms for as many
users who come and leave (measured).
"""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, Self, TypeVar


class Linked(Protocol):
    """An item of one order.

    Attributes:
        older: its neighbours, which only the order sets; None at the ends, and outside of the order.
        newer: likewise.
    """

    older: Self | None
    newer: Self | None


T = TypeVar("T", bound=Linked)


class LinkedOrder(Generic[T]):
    """A list of items, which are linked with each other.

    Attributes:
        oldest: the item with the oldest last change; None if there are no items.
        newest: the one with the newest.
    """

    __slots__ = ("newest", "oldest")

    def __init__(self) -> None:
        self.oldest: T | None = None
        self.newest: T | None = None

    def __iter__(self) -> Iterator[T]:
        """Yield all items, oldest first; the order must not change meanwhile."""
        item = self.oldest
        while item is not None:
            yield item
            item = item.newer

    def move_to_end(self, item: T) -> None:
        """Make an item the newest one, whether or not it is in the list."""
        newest = self.newest
        if newest is item:
            return
        newer = item.newer
        if newer is not None:  # It is in the list.
            # As `remove`, without a call: a private message has very many logs.
            older = newer.older = item.older
            if older is not None:
                older.newer = newer
            else:
                self.oldest = newer
            item.newer = None
        if newest is None:
            self.oldest = item
        else:
            newest.newer = item
        item.older = newest
        self.newest = item

    def move_to_start(self, item: T) -> None:
        """Make an item the oldest one, whether or not it is in the list."""
        self.remove(item)
        oldest = self.oldest
        if oldest is None:
            self.newest = item
        else:
            oldest.older = item
        item.newer = oldest
        self.oldest = item

    def remove(self, item: T) -> None:
        """Remove an item, if it is in the list."""
        older, newer = item.older, item.newer
        if older is not None:
            older.newer = newer
        elif self.oldest is item:
            self.oldest = newer
        if newer is not None:
            newer.older = older
        elif self.newest is item:
            self.newest = older
        item.older = item.newer = None

    def sort(self, key: Callable[[T], float]) -> None:
        """Put all items into another order, that with the lowest key first."""
        for item in sorted(self, key=key):
            self.move_to_end(item)
