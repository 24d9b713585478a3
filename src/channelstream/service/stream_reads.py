"""What streams read of the log: few at a time where nodes share it, so that calls do not wait behind them (`turns.py`)."""

from collections.abc import Iterable, Mapping

from channelstream.core.log import Replay
from channelstream.core.position import Position
from channelstream.engines.base import EventLog
from channelstream.service.turns import Turns

READS_AT_ONCE = 2
"""Reads that are under way at once (see `CLAIMS_AT_ONCE`)."""


class StreamReads:
    """Reads the log for the streams of a node.

    Attributes:
        nothing_after: finds out without a wait whether there is nothing to read (`EventLog.nothing_after`).
    """

    def __init__(self, log: EventLog, is_single: bool) -> None:
        """Create it for a log.

        Args:
            is_single: no other node shares the log. Then it is in this process, and answers at once.
        """
        self._log = log
        self._is_single = is_single
        self._turns = Turns(READS_AT_ONCE)
        self.nothing_after = log.nothing_after

    async def head(self, names: Iterable[str]) -> Position:
        """Return the position after the last accepted events (`EventLog.head`)."""
        if self._is_single:
            return await self._log.head(names)
        async with self._turns.turn():
            return await self._log.head(names)

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        """Read the events after given offsets (`EventLog.replay`)."""
        if self._is_single:
            return await self._log.replay(user, from_offsets, limit)
        async with self._turns.turn():
            return await self._log.replay(user, from_offsets, limit)
