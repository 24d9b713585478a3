"""What is due at some time, found without a look at what is due later."""

from collections.abc import Hashable
from heapq import heappop, heappush
from math import ceil
from typing import Generic, TypeVar

SLOT_S = 0.05
"""How exact a deadline is, in seconds: items of a slot are due together, at its end."""

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """A table of items, each with one deadline: to change one costs the same however many there are."""

    __slots__ = ("_numbers", "_slot_of", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, dict[T, None]] = {}
        self._slot_of: dict[T, int] = {}
        self._numbers: list[int] = []

    def __contains__(self, item: T) -> bool:
        return item in self._slot_of

    def __len__(self) -> int:
        return len(self._slot_of)

    def set(self, item: T, at_s: float) -> None:
        """Give an item a deadline, in place of the one it had."""
        number = ceil(at_s / SLOT_S)
        if self._slot_of.get(item) == number:
            return
        self.drop(item)
        self._slot_of[item] = number
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heappush(self._numbers, number)
        slot[item] = None

    def drop(self, item: T) -> None:
        """Take an item out, if it is there."""
        number = self._slot_of.pop(item, None)
        if number is not None:
            del self._slots[number][item]

    def due(self, now_s: float) -> T | None:
        """Take out and return an item whose deadline is over; None where there is none."""
        while self._numbers and self._numbers[0] * SLOT_S <= now_s:
            slot = self._slots[self._numbers[0]]
            if slot:
                item, _ = slot.popitem()
                del self._slot_of[item]
                return item
            del self._slots[heappop(self._numbers)]
        return None
