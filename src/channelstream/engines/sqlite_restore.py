"""Making a registry again of what the SQLite engine's file holds.

The file has a clock of its own: the wall clock, but never behind the last time in the file, and not moved while a
server runs. So a wall clock that is set neither drops entries, users and channels nor keeps them for ever: the time a
server runs always counts, the time between two runs as far as it can be told. Set back between two runs, the clock of the
file goes on from its last time; set forward, that counts as time in which nobody was here.
"""

import msgspec

from channelstream.core.log import Entry
from channelstream.core.registry import Moment, Registry
from channelstream.engines.base import Clock, moment
from channelstream.engines.sqlite_file import Stored
from channelstream.engines.sqlite_rows import Row, read_event


class Restore:
    """Fills an empty registry.

    Attributes:
        seq: the number of the last event.
        offset_s: seconds from the clock of the entries to that of the file.
    """

    def __init__(self, stored: Stored, registry: Registry, clock: Clock) -> None:
        last = stored.events[-1] if stored.events else (0, 0.0)
        self.offset = max(last[0], int(stored.meta.get("seq", 0)))
        self.clock_offset_s = max(clock.wall(), last[1], float(stored.meta.get("at", 0.0))) - clock.steady()
        self._epoch = stored.meta["epoch"]
        self._registry = registry
        self._now = moment(clock)
        for row in stored.channels:
            self._add_channel(row)
        for row in stored.users:
            self._add_user(row)
        self._add_entries(stored)

    def _add_channel(self, row: Row) -> None:
        name, channel_id, settings, log_floor, history_floor, active_s = row
        channel = self._registry.open_channel(
            name, msgspec.json.decode(settings), log_floor, self._active(active_s)
        )
        channel.id = channel_id
        channel.history.floor = history_floor

    def _add_user(self, row: Row) -> None:
        name, user_id, state, public_keys, log_floor, active_s = row
        user = self._registry.open_user(name, msgspec.json.decode(state), log_floor, self._active(active_s))
        user.id = user_id
        user.publish_keys(msgspec.json.decode(public_keys))

    def _active(self, active_s: float | None) -> Moment:
        """Return when something was last in use: now where it still was, and never later than now."""
        wall_s, steady_s = self._now
        age_s = 0.0 if active_s is None else max(0.0, steady_s + self.clock_offset_s - active_s)
        return Moment(wall_s - age_s, steady_s - age_s)

    def _add_entries(self, stored: Stored) -> None:
        """Put histories and events in, in the order of the log; a history's row is newer than the event it stands for."""
        shown = {row[2]: self._entry(row[2], row[3], row[4:]) for row in stored.history}
        written = {row[0]: self._entry(row[0], row[1], row[4:]) for row in stored.events}
        for offset in sorted(shown.keys() | written.keys()):
            self._add(written.get(offset), shown.get(offset))

    def _entry(self, offset: int, at: float, event: Row) -> Entry:
        return Entry(offset, f"{self._epoch}-{offset}", at - self.clock_offset_s, read_event(*event))

    def _add(self, written: Entry | None, history_entry: Entry | None) -> None:
        if written is not None:
            # Of a file that an older version wrote, which kept what was superseded.
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
