"""The groups of users for whom a private event is accepted one after the other, if they are very many."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice

from channelstream.core.compaction import for_users
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited
from channelstream.core.registry import Registry
from channelstream.engines.base import Clock
from channelstream.engines.staged import Staged
from channelstream.slices import STEP, Slices

USERS_AT_ONCE = 250
"""Users for whom a private event is accepted in one step: it enters the log of each. That takes 0.7 to 1.5 ms."""


def is_for_many(event: Event) -> bool:
    """Return whether an event is accepted in several steps."""
    if event.channel is not None or not isinstance(event, Message | MessageEdited | MessageDeleted):
        return False
    return len(event.only or ()) > USERS_AT_ONCE


def by_users(event: Event, names: Iterable[str]) -> Iterator[Event]:
    """Yield an event for some of these users at a time."""
    rest = iter(names)
    while group := frozenset(islice(rest, USERS_AT_ONCE)):
        yield for_users(event, group)


async def divide(event: Event, registry: Registry, staged: Staged, clock: Clock) -> AsyncIterator[Event]:
    """Yield an event for some of its users at a time; a change for those who have the same entry of its message."""
    if isinstance(event, Message):
        for part in by_users(event, event.only or ()):
            yield part
        return
    groups = await _groups_about(event, registry, staged, clock)
    for part in by_users(event, groups.pop(0, ())):
        yield part
    for names in groups.values():
        yield for_users(event, frozenset(names))


async def _groups_about(
    event: Event, registry: Registry, staged: Staged, clock: Clock
) -> dict[int, list[str]]:
    """Return the users of a change by the offset of the first entry that they have of its message; 0 for none."""
    slices, groups = Slices(clock.steady), dict[int, list[str]]()
    rest = iter(event.only or ())
    while names := list(islice(rest, STEP)):
        entries = staged.entries_about(event)
        for name in names:
            user = registry.users.get(name)
            about = user.log.about(event.uuid) if user is not None else ()
            groups.setdefault(_offset(about or _staged_for(name, entries)), []).append(name)
        await slices.due()
    return groups


def _staged_for(user: str, entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if user in (entry.event.only or ())]


def _offset(entries: Sequence[Entry]) -> int:
    return entries[0].offset if entries else 0
