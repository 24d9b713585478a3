"""Facts that were given up: the engine keeps them for a week, so that an admin can look at them and send them again."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ClientEvent, Fact, Repeated, decode, encode
from channelstream.errors import Unavailable
from channelstream.service import Record, TimeSeries

KEPT_S = 604_800.0
"""How long they are kept, in seconds."""
SHOWN = 500
"""Most that are read."""
DATA_BYTES = 6_000
"""Longest data of a client event that is kept, so that a record has room for it; a longer one is cut, and not sent again."""
_SERIES = "webhooks given up of {}"

logger = logging.getLogger(__name__)


class DeadLetter(NamedTuple):
    """A fact that was given up.

    Attributes:
        at_s: when, in epoch seconds.
        receiver: the name of its receiver.
        is_whole: nothing of it was cut.
    """

    at_s: float
    receiver: str
    reason: str
    fact: Fact
    is_whole: bool


class DeadLetters:
    """The facts of all applications that were given up."""

    def __init__(self, series: TimeSeries, wall: Callable[[], float]) -> None:
        """Create it.

        Args:
            wall: returns epoch seconds.
        """
        self._series = series
        self._wall = wall

    async def add(self, receiver: Receiver, facts: tuple[Fact, ...], reason: str) -> None:
        """Keep facts; if the engine is out of reach, the log has how many are lost."""
        for number, fact in enumerate(facts):
            cut = _cut(fact)
            form = receiver.name, reason, encode(cut), cut is fact
            record = Record(self._wall(), msgspec.msgpack.encode(form))
            try:
                await self._series.append(_SERIES.format(receiver.app_id), record, KEPT_S)
            except Unavailable:
                logger.error("webhooks: events that were given up are not kept: %d", len(facts) - number)  # noqa: TRY400 - no bug, so no traceback
                return

    @staticmethod
    def repeated(letter: DeadLetter, new_id: str, at_ms: int) -> Repeated:
        """Return the fact that has a dead letter sent again, to its receiver only."""
        fact, receiver = letter.fact, letter.receiver
        return Repeated(id=new_id, at_ms=at_ms, place=fact.place, receiver=receiver, data=encode(fact))

    async def read(self, app_id: str) -> list[DeadLetter]:
        """Return the newest of an application, oldest first.

        Raises:
            Unavailable: the engine is out of reach.
        """
        records = await self._series.read(_SERIES.format(app_id), self._wall() - KEPT_S, SHOWN)
        return [letter for record in records if (letter := _read(record)) is not None]


def _cut(fact: Fact) -> Fact:
    if isinstance(fact, ClientEvent) and len(fact.data.encode(errors="replace")) > DATA_BYTES:
        return replace(fact, data="")
    return fact


_decode = msgspec.msgpack.Decoder(tuple[str, str, bytes, bool]).decode


def _read(record: Record) -> DeadLetter | None:
    try:
        receiver, reason, stored, is_whole = _decode(record.data)
    except ValueError:
        return None
    fact = decode(stored)
    return None if fact is None else DeadLetter(record.at_s, receiver, reason, fact, is_whole)
