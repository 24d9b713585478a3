"""Restores a registry from the SQLite engine's file.

The file has its own clock: the wall clock at the start, but never before the last time in the file, and steady while a
server runs. So setting the wall clock neither drops entries, users and channels nor keeps them for ever. The time in which a
server runs always counts. If the wall clock is set back between two runs, the clock of the file continues from its last
time; if it is set forward, the difference counts as idle time.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from channelstream.core.channel import ChannelSettings
from channelstream.core.events import Presence
from channelstream.core.log import Entry
from channelstream.core.registry import Moment, Registry
from channelstream.core.timestamps import stamp
from channelstream.core.user import State
from channelstream.engines.base import Clock, moment
from channelstream.engines.event_codec import UnreadableEvent
from channelstream.engines.sqlite_file import Stored
from channelstream.engines.sqlite_rows import Row, read_event

_ChannelRow = tuple[str, str, Any, int, int, float | None]
_UserRow = tuple[str, str, Any, Any, int, float | None]
_patch = msgspec.json.Decoder(dict[str, Any]).decode
_state = msgspec.json.Decoder(State).decode
_names = msgspec.json.Decoder(list[str]).decode


class _KnownSettings(ChannelSettings, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The settings that this version knows, with their types."""


class Unreadable(ValueError):
    """A row of the file is none that this version knows; the text names what it is about."""


class Restore:
    """Fills an empty registry.

    Attributes:
        offset: the offset of the last event.
        clock_offset_s: seconds from the clock of the entries to that of the file.
    """

    def __init__(self, stored: Stored, registry: Registry, clock: Clock) -> None:
        """Fill the registry.

        Raises:
            Unreadable: a row is damaged, or a newer version has written it.
        """
        self._clock = clock
        self._read("a last offset or time", self._read_marks, stored)
        self._registry = registry
        self._now = moment(clock)
        for row in stored.channels:
            self._read(f"settings of the channel {row[0]!r}", self._add_channel, row)
        for row in stored.users:
            self._read(f"a state of the user {row[0]!r}", self._add_user, row)
        self._read("an event", self._add_entries, stored)

    def _read(self, what: str, read: Callable[[Any], None], stored: Stored | Row) -> None:
        try:
            read(stored)
        except UnreadableEvent as error:
            raise Unreadable(str(error)) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise Unreadable(f"{what} that this version of channelstream cannot read") from error

    def _read_marks(self, stored: Stored) -> None:
        last = stored.events[-1] if stored.events else (0, 0.0)
        self.offset = max(last[0], int(stored.meta.get("seq", 0)))
        last_s = max(last[1], float(stored.meta.get("at", 0.0)))
        self.clock_offset_s = max(self._clock.wall(), last_s) - self._clock.steady()
        self._epoch = stored.meta["epoch"]

    def _add_channel(self, row: Row) -> None:
        name, channel_id, settings, log_floor, history_floor, active_s = msgspec.convert(row, _ChannelRow)
        patch = _patch(settings)
        msgspec.convert(patch, _KnownSettings)
        channel = self._registry.open_channel(name, patch, log_floor, self._active(active_s))
        channel.id = channel_id
        channel.history.floor = history_floor

    def _add_user(self, row: Row) -> None:
        name, user_id, state, public_keys, log_floor, active_s = msgspec.convert(row, _UserRow)
        user = self._registry.open_user(name, _state(state), log_floor, self._active(active_s))
        user.id = user_id
        user.publish_keys(_names(public_keys))

    def _active(self, active_s: float | None) -> Moment:
        """Return the time of last use: now if it was in use when the last run ended, and never later than now."""
        wall_s, steady_s = self._now
        age_s = 0.0 if active_s is None else max(0.0, steady_s + self.clock_offset_s - active_s)
        return Moment(wall_s - age_s, steady_s - age_s)

    def _add_entries(self, stored: Stored) -> None:
        """Add histories and events in the order of the log; a row of a history is newer than the event with its offset."""
        shown = {row[2]: self._entry(row[2], row[3], row[4:]) for row in stored.history}
        written = {row[0]: self._entry(row[0], row[1], row[4:]) for row in stored.events}
        for offset in sorted(shown.keys() | written.keys()):
            self._add(written.get(offset), shown.get(offset))

    def _entry(self, offset: int, at: float, event: Row) -> Entry:
        return Entry(offset, f"{self._epoch}-{offset}", at - self.clock_offset_s, read_event(*event))

    def _add(self, written: Entry | None, history_entry: Entry | None) -> None:
        if written is not None:
            # Files of older versions have superseded events.
            kept = self._registry.compact(written) if written.event.supersedes is not None else written
            for log in self._registry.logs_of(written.event):
                if written.offset > log.floor:
                    log.append(kept)
        shown = history_entry or written
        if shown is None or shown.event.channel is None:
            return
        channel = self._registry.channels.get(shown.event.channel)
        if channel is not None and shown.offset > channel.history.floor:
            self._registry.update_history(channel, shown)


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
