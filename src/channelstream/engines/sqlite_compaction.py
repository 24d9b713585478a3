"""Compaction in the SQLite engine's file: replaces superseded events by their current form, in the batch's transaction.

The registry does the same in memory after the write (`RegistryLogs.compact`), so a restart restores what was in memory.
"""

from collections.abc import Sequence

from channelstream.core.compaction import common, holders, is_for_others, loses, merged, retained
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message
from channelstream.core.registry import Registry
from channelstream.engines.sqlite_file import Writes
from channelstream.engines.sqlite_rows import (
    DROP_EVENTS,
    DROP_HISTORY,
    PUT_EVENTS,
    PUT_HISTORY,
    RAISE_FLOORS,
    RAISE_USER_FLOORS,
    Row,
    event_row,
    history_row,
)


class Compaction:
    """The current forms of the entries of a batch, and of the older entries they supersede.

    Attributes:
        supersedes: whether a text is removed from the file.
    """

    def __init__(self, entries: Sequence[Entry], registry: Registry) -> None:
        """Compute them from the registry before the batch is committed."""
        self._registry = registry
        self._rows: dict[int, Entry | None] = {}
        self._new: dict[int, Entry] = {}
        self._offsets: dict[str, list[int]] = {}
        self._shown: dict[tuple[str, str], Entry | None] = {}
        self._floors: dict[str, int] = {}
        self._user_floors: dict[str, int] = {}
        self.supersedes = False
        for entry in entries:
            self._new[entry.offset] = entry if entry.event.supersedes is None else self._compact(entry)
            self._offsets.setdefault(entry.event.uuid, []).append(entry.offset)

    def _compact(self, entry: Entry) -> Entry:
        self.supersedes = True
        change = kept = entry.event
        for old in self._about(change):
            if is_for_others(change, old.event):
                continue
            kept = merged(kept, old.event)
            if change.only is not None:
                self._keep_shown(old)
            self._put(old, retained(old.event, change))
            if loses(change, old.event):
                self._raise_floors(old.offset, common(old.event, change))
        if change.channel is not None and change.only is None:
            self._show(change.channel, change)
        return entry if kept is change else entry.with_event(kept)

    def _about(self, change: Event) -> list[Entry]:
        """Return the entries about the message of a change, in the file or earlier in this batch."""
        stored = [self._rows.get(old.offset, old) for old in self._registry.logs.entries_about(change)]
        new = [self._new.get(offset) for offset in self._offsets.get(change.uuid, ())]
        return [old for old in (*stored, *new) if old is not None and _is_about(change, old.event)]

    def _put(self, old: Entry, event: Event | None) -> None:
        if event is old.event:
            return
        new = None if event is None else old.with_event(event)
        if old.offset not in self._new:
            self._rows[old.offset] = new
        elif new is not None:
            self._new[old.offset] = new
        else:
            del self._new[old.offset]

    def _keep_shown(self, old: Entry) -> None:
        """Write what the history shows of an entry, before its event is changed for some users, or is lost."""
        event = old.event
        channel = None if event.channel is None else self._registry.channels.get(event.channel)
        if channel is None or event.only is not None or not isinstance(event, Message):
            return
        shown = self._registry.logs.history_message(event)
        if old.offset in self._new and channel.settings.store_history and not event.no_history:
            shown = old
        if shown is not None:
            self._shown.setdefault((channel.name, event.uuid), shown)

    def _show(self, channel: str, change: Event) -> None:
        shown = self._registry.logs.history_message(change)
        old = self._shown.get((channel, change.uuid), shown)
        if old is not None:
            new = retained(old.event, change)
            self._shown[channel, change.uuid] = None if new is None else old.with_event(new)

    def _raise_floors(self, offset: int, event: Event) -> None:
        floors = self._user_floors if event.channel is None else self._floors
        for name in holders(event) if event.channel is None else [event.channel]:
            floors[name] = max(offset, floors.get(name, 0))

    def floors(self) -> Writes:
        """Return the raised floors of channels and users; the rows of new ones must be written before."""
        return [
            (RAISE_FLOORS, list(self._floors.items())),
            (RAISE_USER_FLOORS, list(self._user_floors.items())),
        ]

    def writes(self, clock_offset_s: float) -> Writes:
        """Return the writes; call it in the thread, since it encodes.

        Args:
            clock_offset_s: seconds from the clock of the entries to that of the file.
        """
        gone: list[Row] = [(offset,) for offset, entry in self._rows.items() if entry is None]
        removed: list[Row] = [key for key, entry in self._shown.items() if entry is None]
        put = [entry for entry in (*self._rows.values(), *self._new.values()) if entry is not None]
        return [
            (DROP_EVENTS, gone),
            (PUT_EVENTS, [event_row(entry, entry.at_s + clock_offset_s) for entry in put]),
            (DROP_HISTORY, removed),
            (
                PUT_HISTORY,
                [
                    history_row(channel, entry, entry.at_s + clock_offset_s)
                    for (channel, _), entry in self._shown.items()
                    if entry is not None
                ],
            ),
        ]


def _is_about(change: Event, event: Event) -> bool:
    """Return whether an event is, or is about, the message of a change; private ones share a user."""
    same = (event.uuid, event.channel) == (change.uuid, change.channel)
    return same and (
        change.channel is not None or bool((event.only or frozenset()) & (change.only or frozenset()))
    )
