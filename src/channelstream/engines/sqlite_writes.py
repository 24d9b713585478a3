"""The writes of one batch to the SQLite engine's file."""

from collections.abc import Sequence
from dataclasses import dataclass

from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.events import Presence, UsersLeft
from channelstream.core.facts import Fact
from channelstream.core.registry import Registry
from channelstream.engines.group_commit import Batch
from channelstream.engines.registrations import Registrations
from channelstream.engines.sqlite_compaction import Compaction
from channelstream.engines.sqlite_connections import registration_writes
from channelstream.engines.sqlite_facts import fact_writes
from channelstream.engines.sqlite_file import Writes
from channelstream.engines.sqlite_rows import (
    DROP_CHANNELS,
    DROP_MEMBERS,
    DROP_USERS,
    PUT_CHANNELS,
    PUT_MEMBERS,
    PUT_META,
    PUT_USERS,
    TRIM_EVENTS,
    Row,
    channel_row,
    user_row,
)

PROBED = "probed"
"""The key in `meta` of the row that is written to find out whether the file takes writes again."""


@dataclass(frozen=True, slots=True)
class BatchWrites:
    """The writes of a batch, around those of the upkeep.

    Attributes:
        before: the probe, and deletions of forgotten channels and users.
        state: channels and users as they were when the batch was sealed, and what these channels no longer have.
        registrations: changes of connections.
        facts: for the outbox.
    """

    before: Writes
    state: Writes
    registrations: Registrations
    facts: Sequence[Fact]

    def after(self, entries: Sequence[Entry], compaction: Compaction, clock_offset_s: float) -> Writes:
        """Return the writes after those of the upkeep; call it in the thread, since it encodes.

        Args:
            clock_offset_s: seconds from the clock of the entries to that of the file.
        """
        return [
            *compaction.writes(clock_offset_s),
            *self.state,
            *compaction.floors(),
            *_member_writes(entries),
            *registration_writes(self.registrations),
            *fact_writes(self.facts),
        ]


def writes_of(
    batch: Batch, registry: Registry, committed: int, clock_offset_s: float, probes: bool
) -> BatchWrites:
    """Return the writes of a batch, from the current state of the registry.

    Args:
        committed: the last committed offset.
        clock_offset_s: seconds from the engine's clock to that of the file.
        probes: write at least one row. A transaction without rows would succeed on a full disk.
    """
    names = [(name,) for name in batch.forgotten_channels]
    before: Writes = [
        (PUT_META, [(PROBED, committed)] if probes else []),
        *((bulk, names) for bulk in DROP_CHANNELS),
        (DROP_USERS, [(name,) for name in batch.forgotten_users]),
    ]
    known = registry.channels
    channels = [known[name] for name in batch.channels if name in known]
    users = (registry.users.get(name) for name in batch.users)
    state: Writes = [
        (PUT_CHANNELS, [channel_row(channel, committed, clock_offset_s) for channel in channels]),
        # The file may have events from before a channel was created, which were kept nowhere else.
        (TRIM_EVENTS, [(channel.name, _needed_after(channel)) for channel in channels]),
        (PUT_USERS, [user_row(user, clock_offset_s) for user in users if user]),
    ]
    return BatchWrites(before, state, batch.registrations, batch.facts)


def _needed_after(channel: Channel) -> int:
    """Return the offset up to which neither the log nor the history of a channel has an event."""
    dropped_to, shown = channel.log.dropped_to, channel.history.entries
    return min(dropped_to, shown[0].offset - 1) if shown else dropped_to


def _member_writes(entries: Sequence[Entry]) -> Writes:
    """Return the changes of announced members: the last event of each user in a channel counts."""
    last = {
        (event.channel, event.user): event
        for entry in entries
        if isinstance(entry.event, Presence | UsersLeft)
        for event in _presences(entry.event)
    }
    joined: list[Row] = [(*key, event.announced) for key, event in last.items() if event.joined]
    left: list[Row] = [key for key, event in last.items() if not event.joined]
    return [(PUT_MEMBERS, joined), (DROP_MEMBERS, left)]


def _presences(event: Presence | UsersLeft) -> list[Presence]:
    return [event] if isinstance(event, Presence) else [single for _, single in event.split()]
