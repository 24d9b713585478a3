"""The state of another process, as far as it is here, and the registry that is built of it.

It is built in two steps: channels, users and connections while the other process still serves (`build`), and at the end what
has changed since, with the logs and histories (`finish`). A connection may arrive before the row of its user, or without
one if it ended meanwhile: only channels and users that have a row at the end stay.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from channelstream.core.entry import Entry
from channelstream.core.moment import Moment
from channelstream.core.registry import Registry
from channelstream.engines.base import Clock, moment
from channelstream.engines.event_codec import UnreadableEvent
from channelstream.engines.members import Leaving, RestoredConnection
from channelstream.engines.movable import OTHER_ENGINE
from channelstream.engines.moved_state import (
    CHANNELS,
    EVENTS,
    GONE,
    GONE_CHANNELS,
    GONE_HISTORY,
    GONE_USERS,
    HISTORY,
    META,
    OUTBOX,
    SERIES,
    USERS,
    Shown,
)
from channelstream.engines.sqlite_restore import Unreadable, read_channel, read_user, reading
from channelstream.engines.sqlite_rows import BRIEF_ACTIVE_S, Row, read_event
from channelstream.errors import CannotHandOver

_decode = msgspec.msgpack.Decoder(tuple[str, list[tuple[Any, ...]]]).decode


class TakenState(NamedTuple):
    """What an engine goes on with, besides its registry.

    Attributes:
        offset: of the last event.
        clock_offset_s: seconds from the engine's clock to that of the records.
        series: the records by time, where the engine keeps them in the process.
        outbox: what the outbox keeps, likewise.
    """

    epoch: str
    offset: int
    clock_offset_s: float
    series: Sequence[Row] = ()
    outbox: Sequence[Any] = ()


class IncomingState:
    """The state of another process, as far as it is here."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        """Begin with an empty registry."""
        self._registry = registry
        self._clock = clock
        self._offset_s = 0.0
        self._meta: dict[str, Any] = {}
        self._entries: dict[int, Entry] = {}
        self._shown: dict[Shown, Entry] = {}
        self._rows: dict[str, dict[str, Row]] = {CHANNELS: {}, USERS: {}}
        """Rows that are not applied yet, by name."""
        self._active_s: dict[str, dict[str, float | None]] = {CHANNELS: {}, USERS: {}}
        """When each was last in use; None while it is."""
        self._series: list[Row] = []
        self._outbox: list[Row] = []
        self._take: dict[str, Callable[[list[Row]], None]] = {
            META: self._take_meta,
            EVENTS: self._take_events,
            HISTORY: self._take_history,
            CHANNELS: self._rows_taker(CHANNELS),
            USERS: self._rows_taker(USERS),
            SERIES: self._series.extend,
            OUTBOX: self._outbox.extend,
            GONE: self._remover(self._entries),
            GONE_HISTORY: self._remover(self._shown),
            GONE_CHANNELS: self._remover(self._active_s[CHANNELS]),
            GONE_USERS: self._remover(self._active_s[USERS]),
        }

    # -- records

    def add(self, record: bytes) -> None:
        """Take a record.

        Raises:
            CannotHandOver: it cannot be read.
        """
        try:
            table, rows = _decode(record)
            self._take[table](rows)
        except (ValueError, TypeError, KeyError, UnreadableEvent) as error:
            raise CannotHandOver(OTHER_ENGINE) from error

    def _take_meta(self, rows: list[Row]) -> None:
        values: dict[str, Any] = dict(rows)
        self._meta |= values
        if "at" in values:
            self._offset_s = float(values["at"]) - self._clock.steady()

    @cached_property
    def _epochs(self) -> tuple[str, ...]:
        """Those of all entries, which share them."""
        return (str(self._meta["epoch"]),)

    def _take_events(self, rows: list[Row]) -> None:
        for offset, at, _, _, *event in rows:
            self._entries[offset] = self._entry(offset, at, event)

    def _take_history(self, rows: list[Row]) -> None:
        for channel, _, offset, at, *event in rows:
            self._shown[channel, offset] = self._entry(offset, at, event)

    def _entry(self, offset: int, at: float, event: Sequence[Any]) -> Entry:
        return Entry(offset, self._epochs, at - self._offset_s, read_event(*event))

    def _rows_taker(self, table: str) -> Callable[[list[Row]], None]:
        def take(rows: list[Row]) -> None:
            for row in rows:
                self._rows[table][row[0]] = row
                self._active_s[table][row[0]] = row[-1]

        return take

    @staticmethod
    def _remover(items: dict[Any, Any]) -> Callable[[list[Row]], None]:
        def remove(rows: list[Row]) -> None:
            for (key,) in rows:
                items.pop(tuple(key) if isinstance(key, list) else key, None)

        return remove

    # -- the registry

    def build(self, left: Iterable[Leaving], connections: Iterable[RestoredConnection]) -> None:
        """Put what has come since the last call into the registry: channels, users and connections.

        Args:
            left: connections of earlier calls that are not there any more, or are among the new ones as they are now.

        Raises:
            CannotHandOver: a row cannot be read.
        """
        now = moment(self._clock)
        try:
            for name, row in self._rows[CHANNELS].items():
                with reading(f"settings of the channel {name!r}"):
                    self._put_channel(row, now)
            for name, row in self._rows[USERS].items():
                with reading(f"a state of the user {name!r}"):
                    self._put_user(row, now)
        except Unreadable as error:
            raise CannotHandOver(f"the state has {error}") from error
        for rows in self._rows.values():
            rows.clear()
        for member, channels in ((each.member, each.channels) for each in left):
            user = self._registry.users[member.user]
            for name in channels:
                self._registry.leave(self._registry.channels[name], user, member.protocol.presence, now)
            self._registry.disconnect(user, now)
        for each in connections:
            member = each.member
            self._registry.restore_connection(member.user, each.channels, member.protocol.presence, 0, now)

    def _put_channel(self, row: Row, now: Moment) -> None:
        (name, channel_id, _, log_floor, history_floor, active_s), patch = read_channel(row)
        channel = self._registry.configure(name, patch, log_floor, now)
        channel.id = channel_id
        self._registry.set_brief(channel, active_s == BRIEF_ACTIVE_S, now)
        channel.log.drop_through(log_floor)
        channel.history.drop_through(history_floor)

    def _put_user(self, row: Row, now: Moment) -> None:
        (name, user_id, _, _, log_floor, _), state, public_keys = read_user(row)
        user = self._registry.open_user(name, {}, log_floor, now)
        user.id = user_id
        user.restore(state, public_keys)
        user.log.drop_through(log_floor)

    def finish(self) -> TakenState:
        """Complete the registry, after the last `build`.

        Raises:
            CannotHandOver: the state is not complete.
        """
        if not {"epoch", "seq"} <= self._meta.keys():
            raise CannotHandOver(OTHER_ENGINE)
        self._forget_others()
        self._set_idle_times()
        self._fill_logs()
        epoch, offset = str(self._meta["epoch"]), int(self._meta["seq"])
        return TakenState(epoch, offset, self._offset_s, self._series, self._outbox)

    def _forget_others(self) -> None:
        """Forget channels and users that are none at the end."""
        registry = self._registry
        for name in registry.channels.keys() - self._active_s[CHANNELS].keys():
            registry.forget_channel(registry.channels[name])
        for name in registry.users.keys() - self._active_s[USERS].keys():
            registry.forget_user(registry.users[name])

    def _set_idle_times(self) -> None:
        now = moment(self._clock)
        for table, items in ((CHANNELS, self._registry.channels), (USERS, self._registry.users)):
            for name, active_s in self._active_s[table].items():
                if active_s not in (None, BRIEF_ACTIVE_S):
                    age_s = max(0.0, now.steady_s + self._offset_s - active_s)
                    item = items[name]
                    item.last_active_s, item.idle_since_s = now.wall_s - age_s, now.steady_s - age_s
        self._registry.order_idle()

    def _fill_logs(self) -> None:
        for offset, entry in sorted(self._entries.items()):
            in_channel = entry.event.channel is not None
            for log in self._registry.logs.of(entry.event):
                # One of a channel is still in its log, even below the floor; a private one may have left some logs.
                if in_channel or offset > log.floor:
                    log.append(entry)
        for (name, _), entry in sorted(self._shown.items(), key=_offset_shown):
            self._registry.channels[name].history.append(entry)
        self._entries, self._shown = {}, {}


def _offset_shown(item: tuple[Shown, Entry]) -> int:
    return item[1].offset
