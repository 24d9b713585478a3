"""Restores a registry from the SQLite engine's file.

The file has its own clock: the wall clock at the start, but never before the last time in the file, and steady while a
server runs. So setting the wall clock neither drops entries, users and channels nor keeps them for ever. The time in which a
server runs always counts. If the wall clock is set back between two runs, the clock of the file continues from its last
time; if it is set forward, the difference counts as idle time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from channelstream.core.channel import ChannelSettings
from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.core.moment import Moment
from channelstream.core.position import ReadRange
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.core.timestamps import stamp
from channelstream.core.user import State
from channelstream.engines.base import Clock, moment
from channelstream.engines.event_codec import UnreadableEvent
from channelstream.engines.members import Member, RestoredConnection
from channelstream.engines.sqlite_connections import read_connections, read_subscriptions
from channelstream.engines.sqlite_file import Stored
from channelstream.engines.sqlite_rows import BRIEF_ACTIVE_S, Row, read_event
from channelstream.errors import ConfigError

IDLE_GRACE_S = 600.0
"""How long all that is restored is kept at least, in seconds: clients need time to come back."""

_ChannelRow = tuple[str, str, Any, int, int, float | None]
_UserRow = tuple[str, str, Any, Any, int, float | None]
_patch = msgspec.json.Decoder(dict[str, Any]).decode
_state = msgspec.json.Decoder(State).decode
_names = msgspec.json.Decoder(list[str]).decode


class _KnownSettings(ChannelSettings, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The settings that this version knows, with their types."""


class Unreadable(ValueError):
    """A row of the file is none that this version knows; the text names what it is about."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise the errors of reading rows as Unreadable; only the reading is inside, since other errors are bugs."""
    try:
        yield
    except UnreadableEvent as error:
        raise Unreadable(str(error)) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise Unreadable(f"{what} that this version of channelstream cannot read") from error


def _marks(stored: Stored) -> tuple[int, float]:
    """Return the offset of the last event, and the last time in the file."""
    offset, at = (stored.events[-1][0], stored.events[-1][1]) if stored.events else (0, 0.0)
    return max(offset, int(stored.meta.get("seq", 0))), max(at, float(stored.meta.get("at", 0.0)))


def read_channel(row: Row) -> tuple[_ChannelRow, dict[str, Any]]:
    """Return the columns and the settings of a channel."""
    columns = msgspec.convert(row, _ChannelRow)
    patch = _patch(columns[2])
    msgspec.convert(patch, _KnownSettings)
    return columns, patch


def read_user(row: Row) -> tuple[_UserRow, State, list[str]]:
    """Return the columns, the state and the public keys of a user."""
    columns = msgspec.convert(row, _UserRow)
    return columns, _state(columns[2]), _names(columns[3])


class Restore:
    """Fills an empty registry.

    Attributes:
        offset: the offset of the last event.
        clock_offset_s: seconds from the clock of the entries to that of the file.
        history_rows: the entries of histories that have a row in the file.
        orphans: the entries of channels that are unknown.
        connections: those of the last run.
        left: the rows of the members of the last run that have none of these connections.
    """

    def __init__(self, stored: Stored, registry: Registry, clock: Clock, lifetimes: Lifetimes) -> None:
        """Fill the registry.

        Args:
            lifetimes: of what it will keep.

        Raises:
            Unreadable: a row is damaged, or a newer version has written it.
        """
        self._clock = clock
        self._registry = registry
        self._lifetimes = lifetimes
        self._now = moment(clock)
        self._epochs = (stored.meta["epoch"],)
        with reading("a last offset or time"):
            self.offset, last_s = _marks(stored)
        self.clock_offset_s = max(clock.wall(), last_s) - clock.steady()
        for row in stored.channels:
            with reading(f"settings of the channel {row[0]!r}"):
                channel_row, patch = read_channel(row)
            self._add_channel(channel_row, patch)
        for row in stored.users:
            with reading(f"a state of the user {row[0]!r}"):
                user_row, state, public_keys = read_user(row)
            self._add_user(user_row, state, public_keys)
        with reading("an event"):
            shown = {row[2]: self._entry(row[2], row[3], row[4:]) for row in stored.history}
            written = {row[0]: self._entry(row[0], row[1], row[4:]) for row in stored.events}
        self.history_rows = frozenset(shown.values())
        self.orphans = list[Entry]()
        self._add_entries(shown, written)
        with reading("a connection"):
            ranges = read_subscriptions(stored.subscriptions)
            connections = read_connections(stored.connections)
        self.connections = [
            self._add_connection(member, private, ranges.pop(member.conn_id, {}))
            for member, private in connections
        ]
        self.left = [row for row in stored.members if not self._is_member(*row)]

    def _add_channel(self, row: _ChannelRow, patch: dict[str, Any]) -> None:
        name, channel_id, _, log_floor, history_floor, active_s = row
        is_brief = active_s == BRIEF_ACTIVE_S
        used = self._now if is_brief else self._active(active_s, self._lifetimes.channels_s)
        channel = self._registry.open_channel(name, patch, log_floor, used)
        channel.id = channel_id
        self._registry.set_brief(channel, is_brief, self._now)
        channel.history.floor = history_floor

    def _add_user(self, row: _UserRow, state: State, public_keys: list[str]) -> None:
        name, user_id, _, _, log_floor, active_s = row
        used = self._active(active_s, self._lifetimes.users_s)
        user = self._registry.open_user(name, state, log_floor, used)
        user.id = user_id
        user.publish_keys(public_keys)

    def _add_connection(
        self, member: Member, private: ReadRange, ranges: Mapping[str, ReadRange]
    ) -> RestoredConnection:
        """Register a connection as a member of its channels, announced as it is."""
        registry, presence = self._registry, member.protocol.presence
        registry.restore_connection(member.user, ranges, presence, self.offset, self._now)
        # All connections of a user share one text of the name.
        channels = {registry.channels[name].name: read_range for name, read_range in ranges.items()}
        registered = Member(member.conn_id, registry.users[member.user].name, member.protocol)
        return RestoredConnection(registered, channels, private, (self.offset,))

    def _is_member(self, name: str, user: str, _announced: int) -> bool:
        channel = self._registry.channels.get(name)
        return channel is not None and user in channel.users

    def _active(self, active_s: float | None, lifetime_s: float) -> Moment:
        """Return the time of last use: now if it was in use when the last run ended, and never later than now.

        By the engine's clock it is no earlier than leaves `IDLE_GRACE_S` of a lifetime.
        """
        now = self._now
        age_s = 0.0 if active_s is None else max(0.0, now.steady_s + self.clock_offset_s - active_s)
        return Moment(now.wall_s - age_s, now.steady_s - min(age_s, lifetime_s - IDLE_GRACE_S))

    def _entry(self, offset: int, at: float, event: Row) -> Entry:
        return Entry(offset, self._epochs, at - self.clock_offset_s, read_event(*event))

    def _add_entries(self, shown: dict[int, Entry], written: dict[int, Entry]) -> None:
        """Add histories and events in the order of the log; a row of a history is newer than the event with its offset."""
        for offset in sorted(shown.keys() | written.keys()):
            self._add(shown.get(offset) or written[offset], written.get(offset))

    def _add(self, shown: Entry, written: Entry | None) -> None:
        """Add an entry of a history to that, and the event of its offset to logs, if they may have it still."""
        name = shown.event.channel
        channel = None if name is None else self._registry.channels.get(name)
        if channel is not None and shown.offset > channel.log.floor:
            self._registry.set_brief(channel, False, self._now)  # Its row may be older than its first event.
        if name is not None and channel is None:
            self.orphans.append(shown)
        if written is not None:
            # Files of older versions have superseded events.
            kept = self._registry.logs.compact(written) if written.event.supersedes is not None else written
            for log in self._registry.logs.of(written.event):
                # One of a channel may be known below the floor, too; a private one may be older than its user.
                if channel is not None or written.offset > log.floor:
                    log.append(kept)
        if channel is not None and shown.offset > channel.history.floor:
            self._registry.logs.update_history(channel, shown)


def restore_from(
    stored: Stored, registry: Registry, clock: Clock, lifetimes: Lifetimes, path: Path
) -> Restore:
    """Fill an empty registry with the contents of a file.

    Raises:
        ConfigError: a row is damaged, or a newer version has written it.
    """
    try:
        return Restore(stored, registry, clock, lifetimes)
    except Unreadable as error:
        advice = "use the version that wrote it, or put a backup in its place"
        raise ConfigError(f"engine: {str(path)!r} has {error}: {advice}") from error


def leave_event(uuid: str, member: Row, wall_s: float) -> Presence:
    """Return the leave event of a member at the end of the last run: clients that resume have received its join."""
    channel, user, announced = member
    return Presence(
        uuid=uuid,
        channel=channel,
        user=user,
        joined=False,
        timestamp=stamp(wall_s),
        state=None,
        announced=bool(announced),
    )
