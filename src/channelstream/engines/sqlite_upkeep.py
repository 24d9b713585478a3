"""What the SQLite engine's file may forget, and what it has to note of history before it does.

A message is written once, as an event. Its place in the history is noted, and events that no log holds any more are
deleted, only now and then and for many at once: a busy channel with a short history writes most messages to no other table.
"""

from collections.abc import Iterable

from channelstream.core.channel import Channel
from channelstream.core.log import Entry
from channelstream.core.registry import Registry
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

EVENTS_BETWEEN = 8192
"""Events after which the file is trimmed, even before the time has come (`Engine.collect`): what it may hold too many."""


class Upkeep:
    """Remembers what changed since the file was last trimmed."""

    def __init__(self, registry: Registry, offset_s: float) -> None:
        """Create one.

        Args:
            offset_s: seconds from the clock of the entries to that of the file.
        """
        self._registry = registry
        self._offset_s = offset_s
        self._changed: dict[str, set[str]] = {}
        self._receivers: set[str] = set()
        self._strays: list[Row] = []
        self._floors: dict[str, int] = {}
        self._written_floors: dict[str, int] = {}
        self._events = 0
        self.everything_is_due = False

    @property
    def is_due(self) -> bool:
        return self.everything_is_due or self._events >= EVENTS_BETWEEN

    def note(self, entry: Entry) -> None:
        """Remember an event that was written."""
        event = entry.event
        self._events += 1
        if event.channel is None:
            self._receivers.update(event.only or ())
        elif event.channel in self._registry.channels:
            self._changed.setdefault(event.channel, set()).add(event.uuid)
        else:
            self._strays.append((entry.seq,))

    def forget(self, channels: Iterable[str]) -> None:
        """Remember no more of channels that are gone."""
        for name in channels:
            self._changed.pop(name, None)
            self._floors.pop(name, None)

    def writes(self, recorded: int, now_s: float) -> Writes:
        """Return what brings the file up to date with the registry.

        Args:
            recorded: the last number that counts.
            now_s: the time, in the clock of the entries.
        """
        channels = self._due_channels()
        self._written_floors = {channel.name: channel.log.floor for channel in channels}
        receivers = [self._registry.users[name] for name in self._receivers if name in self._registry.users]
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
            (DROP_EVENTS, self._strays),
            (PUT_META, [("seq", recorded), ("at", now_s + self._offset_s)]),
        ]

    def done(self) -> None:
        """Note that `writes` were written; nothing was noted in between."""
        self._floors |= self._written_floors
        self._changed.clear()
        self._receivers.clear()
        self._strays = []
        self._events = 0
        self.everything_is_due = False

    def _due_channels(self) -> list[Channel]:
        """Return the channels that have changed; where everything is due also those whose entries grew too old."""
        known = self._registry.channels
        if not self.everything_is_due:
            return [known[name] for name in self._changed if name in known]
        return [
            channel
            for name, channel in known.items()
            if name in self._changed or channel.log.floor != self._floors.get(name)
        ]

    def _history_writes(self, channels: Iterable[Channel]) -> Writes:
        shown: list[Row] = []
        struck: list[Row] = []
        for channel in channels:
            for uuid in self._changed.get(channel.name, ()):
                entries = channel.history.about(uuid)
                shown += [history_row(channel.name, entry, entry.at_s + self._offset_s) for entry in entries]
                if not entries:
                    struck.append((channel.name, uuid))
        return [(PUT_HISTORY, shown), (DROP_HISTORY, struck)]
