"""The state of an engine in a process on its way to another one, in records.

The form is that of the SQLite engine's rows, which is stored and restored anyway: a record is a table and some of its rows.
The first record says what time it is by the clock of all times in it. The connections are not in it.

The logs are nearly all of a state, and an event in them never changes: an edit puts another one in its place. So the events
are copied before, while calls are served (`copy`), and the other process reads them at once. What is different at the end
(`rest`) is sent then: new events, those that took the place of others, and which ones are gone.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.registry import Registry
from channelstream.core.user import User
from channelstream.engines.base import OTHER_ENGINE, Clock
from channelstream.engines.event_codec import UnreadableEvent
from channelstream.engines.members import RestoredConnection
from channelstream.engines.sqlite_connections import connection_rows
from channelstream.engines.sqlite_file import Stored
from channelstream.engines.sqlite_restore import Moved, Restore, Unreadable
from channelstream.engines.sqlite_rows import (
    Row,
    channel_row,
    event_row,
    history_row,
    read_event,
    user_row,
)
from channelstream.errors import CannotHandOver
from channelstream.slices import Slices

ROWS = 64
"""Most rows of a record."""
META, CHANNELS, USERS, EVENTS, GONE, HISTORY = "meta", "channels", "users", "events", "gone", "history"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, list[tuple[Any, ...]]]).decode


class OutgoingState:
    """The state here."""

    def __init__(self, registry: Registry, clock: Clock, offset_s: float = 0.0) -> None:
        """Begin; nothing is copied yet.

        Args:
            offset_s: seconds from the engine's steady clock to the clock of the records.
        """
        self._registry = registry
        self._clock = clock
        self._offset_s = offset_s
        self._copied: dict[int, Entry] = {}

    async def copy(self, epoch: str) -> AsyncIterator[bytes]:
        """Yield records of the events, in short turns of the event loop."""
        yield _encode((META, [("epoch", epoch), ("at", self._clock.steady() + self._offset_s)]))
        slices = Slices(self._clock.steady)
        for log in [*(each.log for each in self._channels()), *(each.log for each in self._users())]:
            entries = [entry for entry in log.entries if entry.offset not in self._copied]
            self._copied |= {entry.offset: entry for entry in entries}
            for record in self._event_records(entries):
                yield record
                await slices.due()
            await slices.due()

    async def rest(self, committed: int) -> AsyncIterator[bytes]:
        """Yield the records of everything else; nothing changes meanwhile.

        Args:
            committed: the offset of the last event.
        """
        present = {entry.offset: entry for entry in self._entries()}
        yield _encode((META, [("seq", committed)]))
        changed = [present[at] for at in sorted(present) if self._copied.get(at) is not present[at]]
        gone = self._copied.keys() - present.keys()
        offset_s = self._offset_s
        channels = (channel_row(each, committed, offset_s) for each in self._channels())
        histories = (history_row(name, each, each.at_s + offset_s) for name, each in self._histories())
        for records in (
            _records(GONE, ((offset,) for offset in sorted(gone))),
            self._event_records(changed),
            _records(CHANNELS, _in_order_of_use(channels)),
            _records(USERS, _in_order_of_use(user_row(each, offset_s) for each in self._users())),
            _records(HISTORY, histories),
        ):
            for record in records:
                yield record

    def _channels(self) -> Iterable[Channel]:
        return self._registry.channels.values()

    def _users(self) -> Iterable[User]:
        return self._registry.users.values()

    def _entries(self) -> Iterator[Entry]:
        for channel in self._channels():
            yield from channel.log.entries
        for user in self._users():
            yield from user.log.entries

    def _event_records(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        return _records(EVENTS, (event_row(each, each.at_s + self._offset_s) for each in entries))

    def _histories(self) -> list[tuple[str, Entry]]:
        found = [(each.name, entry) for each in self._channels() for entry in each.history.entries]
        return sorted(found, key=lambda each: each[1].offset)


class IncomingState:
    """The state of another process, as far as it is here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[int, Entry] = {}
        self._offset_s = 0.0
        self._meta: dict[str, Any] = {}
        self._tables: dict[str, list[Row]] = {name: [] for name in (CHANNELS, USERS, HISTORY)}

    def add(self, record: bytes) -> None:
        """Take a record.

        Raises:
            CannotHandOver: it cannot be read.
        """
        try:
            table, rows = _decode(record)
            self._add(table, rows)
        except (ValueError, TypeError, KeyError, UnreadableEvent) as error:
            raise CannotHandOver(OTHER_ENGINE) from error

    def _add(self, table: str, rows: list[Row]) -> None:
        if table == META:
            self._meta |= dict(rows)
            self._offset_s = (
                float(self._meta["at"]) - self._clock.steady() if len(rows) > 1 else self._offset_s
            )
        elif table == EVENTS:
            epoch, offset_s = self._meta["epoch"], self._offset_s
            for offset, at, _, _, *event in rows:
                self._entries[offset] = Entry(offset, f"{epoch}-{offset}", at - offset_s, read_event(*event))
        elif table == GONE:
            for (offset,) in rows:
                self._entries.pop(offset, None)
        else:
            self._tables[table] += rows

    def restored(self, registry: Registry, connections: Sequence[RestoredConnection]) -> tuple[Restore, str]:
        """Fill an empty registry, also with the connections; return what else is restored, and the epoch.

        Raises:
            CannotHandOver: the state is not complete, or cannot be read.
        """
        if not {"epoch", "seq"} <= self._meta.keys():
            raise CannotHandOver(OTHER_ENGINE)
        stored = Stored(self._meta, **self._tables, **connection_rows(connections))
        try:
            restore = Restore(stored, registry, self._clock, Moved(self._entries, self._offset_s))
        except Unreadable as error:
            raise CannotHandOver(f"the state has {error}") from error
        return restore, str(self._meta["epoch"])


def _in_order_of_use(rows: Iterable[Row]) -> list[Row]:
    """Return rows of channels or users as they are restored: the longest idle first, those in use last."""
    return sorted(rows, key=lambda row: (row[-1] is None, row[-1] or 0.0))


def _records(table: str, rows: Iterable[Row]) -> Iterator[bytes]:
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == ROWS:
            yield _encode((table, waiting))
            waiting = []
    if waiting:
        yield _encode((table, waiting))
