"""What the SQLite engine's file may forget, and what it has to note of history before it does.

A message is written once, as an event. Its place in the history is noted, and events that no log holds any more are
deleted, only now and then and for many at once: a busy channel with a short history writes most messages to no other table.
"""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from channelstream.core.channel import Channel
from channelstream.core.log import Entry
from channelstream.core.registry import Registry
from channelstream.engines.base import Clock
from channelstream.engines.sqlite_file import Writes
from channelstream.engines.sqlite_rows import (
    AGE_PRIVATE,
    AGE_USERS,
    DROP_EVENTS,
    DROP_HISTORY,
    PUT_CHANNELS,
    PUT_HISTORY,
    PUT_META,
    PUT_USERS,
    TRIM_EVENTS,
    TRIM_HISTORY,
    TRIM_PRIVATE,
    Row,
    channel_row,
    history_row,
    user_row,
)
from channelstream.slices import Slices

EVENTS_BETWEEN = 8192
"""Events after which the file is trimmed, even before the time has come (`Engine.collect`): what it may hold too many."""
ROWS_AT_ONCE = 500
"""Rows that are made for one batch: about 2 ms. What is left goes with the next batches."""
STRUCK_AT_COST = 10
"""Messages that a history does not show any more, at the cost of a row of one that it shows."""


class Upkeep:
    """Remembers what changed since the file was last trimmed.

    A round of trimming takes over the names of what has changed until then, and writes a part of it with each batch.

    Attributes:
        everything_is_due: a round begins with the next batch, however little has changed.
    """

    def __init__(self, registry: Registry, clock: Clock, offset_s: float) -> None:
        """Create one.

        Args:
            clock: that of the entries.
            offset_s: seconds from that clock to the one of the file.
        """
        self._registry = registry
        self._clock = clock
        self._offset_s = offset_s
        self._changed: dict[str, set[str]] = {}
        self._receivers: dict[str, None] = {}
        self._due: dict[str, set[str]] = {}
        self._due_receivers: dict[str, None] = {}
        self._strays: list[Row] = []
        self._floors: dict[str, int] = {}
        self._part = _Part([], [], 0)
        self._events = 0
        self.everything_is_due = False

    @property
    def is_due(self) -> bool:
        return self.everything_is_due or self._events >= EVENTS_BETWEEN or self._has_begun

    @property
    def _has_begun(self) -> bool:
        return bool(self._due or self._due_receivers)

    def note(self, entry: Entry) -> None:
        """Remember an event that was written."""
        event = entry.event
        self._events += 1
        if event.channel is None:
            self._receivers |= dict.fromkeys(event.only or ())
        elif event.channel in self._registry.channels:
            self._changed.setdefault(event.channel, set()).add(event.uuid)
        else:
            self._strays.append((entry.seq,))

    def forget(self, channels: Iterable[str]) -> None:
        """Remember no more of channels that are gone."""
        for name in channels:
            self._changed.pop(name, None)
            self._due.pop(name, None)
            self._floors.pop(name, None)

    async def everything(self) -> None:
        """Have everything written that has changed, the channels included of which entries grew too old."""
        slices = Slices(self._clock.steady)
        await slices.each(list(self._registry.channels.values()), self._note_floor)
        self.everything_is_due = True

    def _note_floor(self, channel: Channel) -> None:
        if channel.log.floor != self._floors.get(channel.name):
            self._changed.setdefault(channel.name, set())

    def writes(self, recorded: int) -> Writes:
        """Return what brings a part of the file up to date with the registry.

        Args:
            recorded: the last number that counts.
        """
        if not self._has_begun:
            self._begin()
        known, now_s = self._registry.channels, self._clock.steady()
        part = self._part = self._next_part()
        channels = [known[name] for name in part.channels if name in known]
        receivers = [self._registry.users[name] for name in part.receivers if name in self._registry.users]
        self._floors |= {channel.name: channel.log.floor for channel in channels}
        aged: list[Row] = [(now_s + self._offset_s - self._registry.limits.log_age_s,)]
        return [
            *self._history_writes(channels),
            (PUT_CHANNELS, [channel_row(channel, recorded, self._offset_s) for channel in channels]),
            (TRIM_HISTORY, [(channel.name, channel.history.floor) for channel in channels]),
            (TRIM_EVENTS, [(channel.name, channel.log.floor) for channel in channels]),
            (PUT_USERS, [user_row(user, self._offset_s) for user in receivers]),
            (TRIM_PRIVATE, [(user.name, user.log.floor) for user in receivers]),
            (AGE_USERS, aged),
            (AGE_PRIVATE, aged),
            (DROP_EVENTS, self._strays[: part.strays]),
            (PUT_META, [("seq", recorded), ("at", now_s + self._offset_s)]),
        ]

    def _begin(self) -> None:
        self._due, self._changed = self._changed, {}
        self._due_receivers, self._receivers = self._receivers, {}
        self._events = 0
        self.everything_is_due = False

    def _next_part(self) -> "_Part":
        part = _Part([], [], len(self._strays))
        rows = 0
        for name, uuids in self._due.items():
            if rows >= ROWS_AT_ONCE:
                break
            # Its events are trimmed up to where its log begins now, so what its history shows of them is written first.
            uuids |= self._changed.pop(name, set())
            part.channels.append(name)
            rows += 1 + self._cost(name, len(uuids))
        part.receivers.extend(islice(self._due_receivers, max(0, ROWS_AT_ONCE - rows)))
        return part

    def _cost(self, name: str, changed: int) -> int:
        """Return about how many rows the history of a channel costs: to strike a message costs little."""
        channel = self._registry.channels.get(name)
        return changed // STRUCK_AT_COST + min(changed, len(channel.history.entries) if channel else 0)

    def done(self) -> None:
        """Note that `writes` were written; nothing was noted in between."""
        for name in self._part.channels:
            self._due.pop(name, None)
        for name in self._part.receivers:
            del self._due_receivers[name]
        del self._strays[: self._part.strays]

    def failed(self) -> None:
        """Note that `writes` were not written: they are due again."""
        self.everything_is_due = True

    def _history_writes(self, channels: Iterable[Channel]) -> Writes:
        shown: list[Row] = []
        struck: list[Row] = []
        for channel in channels:
            for uuid in self._due[channel.name]:
                entries = channel.history.about(uuid)
                shown += [history_row(channel.name, entry, entry.at_s + self._offset_s) for entry in entries]
                if not entries:
                    struck.append((channel.name, uuid))
        return [(PUT_HISTORY, shown), (DROP_HISTORY, struck)]


class _Part(NamedTuple):
    """What one batch brings up to date: channels, users with private messages, and how many of the strays."""

    channels: list[str]
    receivers: list[str]
    strays: int
