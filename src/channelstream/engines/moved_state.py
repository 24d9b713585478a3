"""The state of an engine in a process on its way to another one, in records.

The form is that of the SQLite engine's rows, which is stored and restored anyway: a record is a table and some of its rows.
The first record says what time it is by the clock of all times in it. The connections are not in it.

All of it is copied while calls are served (`copy`), and what has changed since is sent when nothing changes any more
(`rest`). Nothing is recorded for that while a server runs: entries of logs and histories never change, since an edit puts
another one in their place, and channels and users are compared with what was copied of them (`_channel_mark`, `_user_mark`).
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.registry import Registry
from channelstream.core.user import State, User
from channelstream.engines.base import Clock
from channelstream.engines.sqlite_rows import Row, channel_row, event_row, history_row, user_row
from channelstream.slices import Slices

ROWS = 64
"""Most rows of a record."""
META, CHANNELS, USERS, EVENTS, HISTORY = "meta", "channels", "users", "events", "history"
SERIES, OUTBOX = "time_series", "outbox"
GONE, GONE_HISTORY, GONE_CHANNELS, GONE_USERS = "gone", "gone_history", "gone_channels", "gone_users"

_ChannelMark = tuple[Channel, object, int, int | None, float | None, bool]
_UserMark = tuple[User, tuple[str, State], int, float | None]
Shown = tuple[str, int]
"""An entry of a history: its channel and its offset."""

_encode = msgspec.msgpack.Encoder().encode

K = TypeVar("K")
V = TypeVar("V")


class OutgoingState:
    """The state of an engine of this process, as it is copied to another one."""

    def __init__(self, registry: Registry, clock: Clock, offset_s: float) -> None:
        """Begin; nothing is copied yet.

        Args:
            offset_s: seconds from the engine's steady clock to the clock of the records.
        """
        self._registry = registry
        self._clock = clock
        self._offset_s = offset_s
        self._has_begun = False
        self._entries: dict[int, Entry] = {}
        self._shown: dict[Shown, Entry] = {}
        self._channel_marks: dict[str, _ChannelMark] = {}
        self._user_marks: dict[str, _UserMark] = {}

    async def copy(self, epoch: str, committed: int) -> AsyncIterator[bytes]:
        """Yield records in short turns of the event loop: of everything, and when called again of what has changed.

        Args:
            committed: the offset of the last event.
        """
        if not self._has_begun:
            self._has_begun = True
            yield _encode((META, [("epoch", epoch), ("at", self._clock.steady() + self._offset_s)]))
        slices = Slices(self._clock.steady)
        for channel in list(self._channels()):
            for record in (*self._new_events(channel.log.entries), *self._new_history(channel)):
                yield record
            await slices.due()
        for user in list(self._users()):
            for record in self._new_events(user.log.entries):
                yield record
            await slices.due()
        for record in self._changed_rows(committed):
            yield record
            await slices.due()

    async def rest(self, committed: int) -> AsyncIterator[bytes]:
        """Yield the records of what has changed since it was copied; nothing changes meanwhile."""
        yield _encode((META, [("seq", committed)]))
        entries = {entry.offset: entry for entry in self._log_entries()}
        shown = {
            (each.name, entry.offset): entry for each in self._channels() for entry in each.history.entries
        }
        registry = self._registry
        for each in (
            records(GONE, _gone(self._entries, entries)),
            self._event_records(_new(self._entries, entries)),
            self._changed_rows(committed),
            records(GONE_CHANNELS, _gone(self._channel_marks, registry.channels)),
            records(GONE_USERS, _gone(self._user_marks, registry.users)),
            records(GONE_HISTORY, _gone(self._shown, shown)),
            self._history_records(_new(self._shown, shown)),
        ):
            for record in each:
                yield record

    def _channels(self) -> Iterable[Channel]:
        return self._registry.channels.values()

    def _users(self) -> Iterable[User]:
        return self._registry.users.values()

    def _log_entries(self) -> Iterator[Entry]:
        for channel in self._channels():
            yield from channel.log.entries
        for user in self._users():
            yield from user.log.entries

    def _new_events(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        return self._event_records(_new(self._entries, {entry.offset: entry for entry in entries}))

    def _new_history(self, channel: Channel) -> Iterator[bytes]:
        shown = {(channel.name, entry.offset): entry for entry in channel.history.entries}
        return self._history_records(_new(self._shown, shown))

    def _event_records(self, entries: Mapping[int, Entry]) -> Iterator[bytes]:
        rows = (event_row(entry, entry.at_s + self._offset_s) for _, entry in sorted(entries.items()))
        return records(EVENTS, rows)

    def _history_records(self, shown: Mapping[Shown, Entry]) -> Iterator[bytes]:
        rows = (history_row(name, each, each.at_s + self._offset_s) for (name, _), each in shown.items())
        return records(HISTORY, rows)

    def _changed_rows(self, committed: int) -> Iterator[bytes]:
        """Return the records of the channels and users that are not as they were copied."""
        offset_s = self._offset_s
        channels = (channel_row(each, committed, offset_s) for each in self._changed_channels())
        yield from records(CHANNELS, channels)
        yield from records(USERS, (user_row(each, offset_s) for each in self._changed_users()))

    def _changed_channels(self) -> Iterator[Channel]:
        marks = self._channel_marks
        for channel in list(self._channels()):
            mark = _channel_mark(channel)
            if marks.get(channel.name) != mark:
                marks[channel.name] = mark
                yield channel

    def _changed_users(self) -> Iterator[User]:
        marks = self._user_marks
        for user in list(self._users()):
            mark, before = _user_mark(user), marks.get(user.name)
            # Not by value: the private state may differ while the public one is equal.
            if before is None or before[1] is not mark[1] or before != mark:
                marks[user.name] = mark
                yield user


def _channel_mark(channel: Channel) -> _ChannelMark:
    """Return what differs if a channel has changed, apart from its entries."""
    shown = channel.history.entries
    idle_since_s = None if channel.connections else channel.idle_since_s
    first = shown[0].offset if shown else None
    return channel, channel.settings, channel.log.floor, first, idle_since_s, channel.is_brief


def _user_mark(user: User) -> _UserMark:
    """Return what differs if a user has changed; `listed` is replaced with every change of the state or its keys."""
    return user, user.listed, user.log.floor, None if user.connections else user.idle_since_s


def _new(copied: dict[K, Entry], present: Mapping[K, Entry]) -> dict[K, Entry]:
    """Return the present entries that are not copied, and add them to those that are."""
    new = {key: entry for key, entry in present.items() if copied.get(key) is not entry}
    copied |= new
    return new


def _gone(copied: Mapping[K, object], present: Mapping[K, object]) -> list[tuple[K]]:
    """Return rows of the copied items that are not there any more."""
    return [(key,) for key in copied if key not in present]


def records(table: str, rows: Iterable[Row]) -> Iterator[bytes]:
    """Return rows of a table as records."""
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == ROWS:
            yield _encode((table, waiting))
            waiting = []
    if waiting:
        yield _encode((table, waiting))
