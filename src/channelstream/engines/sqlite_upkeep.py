"""Trims the SQLite engine's file: deletes events that no log has any more, after writing the history rows they leave.

A message is written once, as an event. Only every few thousand events, for many at once, its row in the history is
written and old events are deleted. So most messages of a busy channel with a short history are never written twice.
"""

from collections.abc import Container, Iterable
from itertools import islice
from math import ceil
from typing import NamedTuple

from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
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
"""Events after which the file is trimmed even before `Engine.collect`: it may have this many too many."""
ROWS_AT_ONCE = 500
"""Rows made for one batch: about 2 ms. The rest, also of one channel, is written with the next one."""
REMOVED_PER_ROW = 10
"""Messages that are removed from a history at the cost of one row that is written."""


class Upkeep:
    """Tracks what has changed since the file was last trimmed.

    A round of trimming takes the names that have changed until it begins, and writes a part of them with each batch. The
    history of a channel may take several parts. Its events are deleted with the last one: earlier, a crash
    would lose messages that the history shows and whose rows are not written yet.

    Attributes:
        clock_offset_s: seconds from the clock of the entries to the one of the file.
        everything_is_due: a round begins with the next batch, however little has changed.
    """

    def __init__(self, registry: Registry, clock: Clock, clock_offset_s: float) -> None:
        """Create one with nothing to do.

        Args:
            clock: the clock of the entries.
        """
        self._registry = registry
        self._clock = clock
        self.clock_offset_s = clock_offset_s
        self._changed: dict[str, set[str]] = {}
        self._receivers: dict[str, None] = {}
        self._due: dict[str, set[str]] = {}
        self._due_receivers: dict[str, None] = {}
        self._orphans: list[Row] = []
        self._trimmed_to: dict[str, int] = {}
        self._trim_to: dict[str, int] = {}
        self._part = _Part({}, [], 0)
        self._events = 0
        self.everything_is_due = False

    @property
    def is_due(self) -> bool:
        return self.everything_is_due or self._events >= EVENTS_BETWEEN or self._has_begun

    @property
    def _has_begun(self) -> bool:
        return bool(self._due or self._due_receivers)

    def track(self, entry: Entry) -> None:
        """Record an event that was written."""
        event = entry.event
        self._events += 1
        if event.channel is None:
            self._receivers |= dict.fromkeys(event.only or ())
        elif event.channel in self._registry.channels:
            self._changed.setdefault(event.channel, set()).add(event.uuid)
        else:
            self._orphans.append((entry.offset,))

    def track_histories(self, rows: Container[Entry]) -> None:
        """Record the messages of histories that have no row: the last run, or another process, has not written them.

        Args:
            rows: the entries that have one.
        """
        for channel in self._registry.channels.values():
            uuids = {entry.event.uuid for entry in channel.history.entries if entry not in rows}
            if uuids:
                self._changed[channel.name] = uuids

    def forget(self, channels: Iterable[str]) -> None:
        """Forget channels that no longer exist."""
        for name in channels:
            self._changed.pop(name, None)
            self._due.pop(name, None)
            self._trimmed_to.pop(name, None)
            self._trim_to.pop(name, None)

    async def schedule_all(self) -> None:
        """Schedule a round for everything that has changed, including channels whose entries became too old."""
        slices = Slices(self._clock.steady)
        await slices.each(list(self._registry.channels.values()), self._check_floor)
        self.everything_is_due = True

    def _check_floor(self, channel: Channel) -> None:
        if channel.log.dropped_to != self._trimmed_to.get(channel.name):
            self._changed.setdefault(channel.name, set())

    def writes(self, committed: int) -> Writes:
        """Return the writes that bring a part of the file up to date with the registry.

        Args:
            committed: the last committed offset.
        """
        if not self._has_begun:
            self._begin()
        known, now_s = self._registry.channels, self._clock.steady()
        part = self._part = self._next_part()
        channels = [known[name] for name in part.channels if name in known and self._is_last(name)]
        read_to = {
            channel.name: min(channel.log.dropped_to, self._trim_to[channel.name]) for channel in channels
        }
        receivers = [self._registry.users[name] for name in part.receivers if name in self._registry.users]
        self._trimmed_to |= read_to
        aged: list[Row] = [(now_s + self.clock_offset_s - self._registry.limits.private_age_s,)]
        return [
            *self._history_writes(known[name] for name in part.channels if name in known),
            (PUT_CHANNELS, [channel_row(channel, committed, self.clock_offset_s) for channel in channels]),
            (TRIM_HISTORY, [(channel.name, channel.history.floor) for channel in channels]),
            (TRIM_EVENTS, list(read_to.items())),
            (PUT_USERS, [user_row(user, self.clock_offset_s) for user in receivers]),
            (TRIM_PRIVATE, [(user.name, user.log.floor) for user in receivers]),
            (AGE_USERS, aged),
            (AGE_PRIVATE, aged),
            (DROP_EVENTS, self._orphans[: part.orphans]),
            (PUT_META, [("seq", committed), ("at", now_s + self.clock_offset_s)]),
        ]

    def _begin(self) -> None:
        self._due, self._changed = self._changed, {}
        self._due_receivers, self._receivers = self._receivers, {}
        self._events = 0
        self.everything_is_due = False

    def _next_part(self) -> "_Part":
        part = _Part({}, [], len(self._orphans))
        rows = 0.0
        for name, uuids in self._due.items():
            if rows >= ROWS_AT_ONCE:
                break
            if name not in self._trim_to:
                # Its events will be deleted up to the current begin of its log; all history rows about them come first.
                uuids |= self._changed.pop(name, set())
                self._trim_to[name] = self._dropped_to(name)
            selected, cost = self._select(name, uuids, ROWS_AT_ONCE - rows)
            part.channels[name] = selected
            rows += 1 + cost
        part.receivers.extend(islice(self._due_receivers, max(0, ROWS_AT_ONCE - ceil(rows))))
        return part

    def _dropped_to(self, name: str) -> int:
        channel = self._registry.channels.get(name)
        return channel.log.dropped_to if channel else 0

    def _select(self, name: str, uuids: set[str], most: float) -> tuple[list[str], float]:
        """Return some of a channel's messages, and about how many rows they cost: removing one costs little."""
        channel = self._registry.channels.get(name)
        selected: list[str] = []
        cost = 0.0
        for uuid in uuids:
            if cost >= most:
                break
            selected.append(uuid)
            cost += (len(channel.history.about(uuid)) if channel else 0) or 1 / REMOVED_PER_ROW
        return selected, cost

    def _is_last(self, name: str) -> bool:
        """Return whether the current part finishes a channel."""
        return len(self._part.channels[name]) == len(self._due[name])

    def done(self) -> None:
        """Record that `writes` were written; nothing may have been tracked in between."""
        for name, selected in self._part.channels.items():
            if name in self._due:
                self._due[name].difference_update(selected)
                if not self._due[name]:
                    del self._due[name], self._trim_to[name]
        for name in self._part.receivers:
            del self._due_receivers[name]
        del self._orphans[: self._part.orphans]

    def failed(self) -> None:
        """Record that `writes` were not written: they are due again."""
        self.everything_is_due = True

    def _history_writes(self, channels: Iterable[Channel]) -> Writes:
        shown: list[Row] = []
        removed: list[Row] = []
        for channel in channels:
            for uuid in self._part.channels[channel.name]:
                entries = channel.history.about(uuid)
                shown += [
                    history_row(channel.name, entry, entry.at_s + self.clock_offset_s) for entry in entries
                ]
                if not entries:
                    removed.append((channel.name, uuid))
        return [(PUT_HISTORY, shown), (DROP_HISTORY, removed)]


class _Part(NamedTuple):
    """One part of a round: messages of channels, users with private messages, and the number of orphans.

    Orphans are events of channels that no longer exist.
    """

    channels: dict[str, list[str]]
    receivers: list[str]
    orphans: int
