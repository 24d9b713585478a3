"""The parts of a list of events: by the shards of their recipients, and as much as one call of the script takes."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from channelstream.core.compaction import for_users
from channelstream.core.events import Event
from channelstream.engines.event_codec import payload_of
from channelstream.engines.redis import event_text
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shards import Shards

EVENTS_AT_ONCE = 50
"""Events that one call publishes."""
USERS_AT_ONCE = 20
"""Users for whom a private event is accepted together."""
NAMES_BYTES = 32 << 10
"""Bytes of user names for which an event in a channel is accepted together: a script handles them one by one."""
PUBLISH_BYTES = 1 << 20
"""Bytes of events in one call, and bytes that a private message may take in the logs of the users of one event."""

Fits = Callable[[int, int], bool]
"""Returns whether an event may be accepted for this many users together, whose names have this many bytes."""


def parts_of(event: Event, shards: Shards) -> Iterable[tuple[Shard, Event]]:
    """Return the shards that accept an event; for very many users, in several parts for some users each.

    A private message is in the log of each of its users, with the names of all users of that part.
    """
    fits: Fits
    if event.channel is not None:
        names, fits = {shards.at(event.channel): sorted(event.only or ())}, _in_channel
    else:
        names, fits = shards.split(sorted(event.only or ()) or [""]), _private(event)
    if sum(map(len, names.values())) <= 1:
        return [(shard, event) for shard in names]
    return [
        (shard, for_users(event, frozenset(batch)))
        for shard, users in names.items()
        for batch in _groups(users, fits)
    ]


def next_events(batch: Sequence[tuple[int, Event]], start: int) -> list[Event]:
    """Return the events of the next call: at most 50 and about 1 MiB, or one with a big payload."""
    events: list[Event] = []
    size = 0
    for _, event in batch[start : start + EVENTS_AT_ONCE]:
        is_big = event_text.big_payload(event) is not None
        if is_big and events:
            break
        events.append(event)
        size += event.size_bytes()
        if is_big or size >= PUBLISH_BYTES:
            break
    return events


def _in_channel(_: int, name_bytes: int) -> bool:
    """Return whether names fit for an event in a channel, which is written once."""
    return name_bytes <= NAMES_BYTES


def _private(event: Event) -> Fits:
    """Return the limit for a private event, which is written once for each user."""
    text_bytes = len(payload_of(event) or b"")

    def fits(users: int, name_bytes: int) -> bool:
        return users <= USERS_AT_ONCE and users * (text_bytes + name_bytes) <= PUBLISH_BYTES

    return fits


def _groups(names: Sequence[str], fits: Fits) -> Iterator[list[str]]:
    """Yield names in groups that fit, of at least one name."""
    group: list[str] = []
    size = 0
    for name in names:
        size += len(name.encode())
        if group and not fits(len(group) + 1, size):
            yield group
            group, size = [], len(name.encode())
        group.append(name)
    yield group
