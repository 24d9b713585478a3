"""What engines of one process answer of their log and their registry: committed entries only.

Reads of very many logs or entries have a turn of the event loop before and after them.
"""

from collections.abc import Callable, Mapping, Sequence
from heapq import merge, nsmallest
from itertools import islice
from operator import attrgetter, itemgetter

from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.log import PRIVATE, Log, Replay
from channelstream.core.position import Offsets
from channelstream.core.user import User
from channelstream.engines.base import Clock, Counts, MembersAt
from channelstream.engines.local_log import LocalLog
from channelstream.slices import MANY, turn_for

_offset: Callable[[Entry], int] = attrgetter("offset")


class LocalReads:
    """Reads of one log."""

    def __init__(self, log: LocalLog, clock: Clock) -> None:
        self._log = log
        self._registry = log.registry
        self._clock = clock

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        """Read the events after given offsets; see `EventLog.replay`."""
        await turn_for(len(from_offsets))
        found = self._replay(user, from_offsets, limit)
        await turn_for(len(found.entries))
        return found

    def nothing_after(self, user: str, from_offsets: Mapping[str, int], *, strict: bool) -> Offsets | None:
        """Find out without a wait whether there is nothing to read; see `EventLog.nothing_after`."""
        if len(from_offsets) >= MANY:
            return None
        for name, from_offset in from_offsets.items():
            log = self._log_of(user, name)
            # Without entries after this offset the floor is not above it either, whichever of them have to expire.
            if log is not None and log.next_offset(from_offset) is not None:
                return None
            if strict and (log is None or from_offset < log.floor):
                return None
        return (self._log.committed,)

    def _replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        now_s, committed = self._clock.steady(), self._log.committed
        found: list[tuple[int, int, Log]] = []
        lost = set()
        for name, from_offset in from_offsets.items():
            log = self._log_of(user, name)
            if log is not None:
                log.expire(now_s)
            if log is None or from_offset < log.floor:
                lost.add(name)
            elif (next_offset := log.next_offset(from_offset)) is not None:
                found.append((next_offset, from_offset, log))
        if not found:
            return Replay([], frozenset(lost), (committed,), (committed,))
        # The other logs have none of the entries that are read.
        nearest = nsmallest(limit + 1, found, key=itemgetter(0))
        following = (log.since(from_offset, now_s) for _, from_offset, log in nearest)
        # One entry more than the limit shows whether any is left, and up to which offset the others are complete.
        entries = list(islice(merge(*following, key=_offset), limit + 1))
        read_to = committed if len(entries) <= limit else entries[limit].first_offset - 1
        return Replay(entries[:limit], frozenset(lost), (read_to,), (committed,))

    def _log_of(self, user: str, name: str) -> Log | None:
        holder: Channel | User | None
        holder = self._registry.users.get(user) if name == PRIVATE else self._registry.channels.get(name)
        return None if holder is None else holder.log

    def channels(self, names: Sequence[str] | None) -> list[Channel]:
        """Return the known channels among these; None means all."""
        known = self._registry.channels
        return list(known.values()) if names is None else [known[name] for name in names if name in known]

    def users(self, names: Sequence[str] | None) -> list[User]:
        """Return the known users among these; None means all."""
        known = self._registry.users
        return list(known.values()) if names is None else [known[name] for name in names if name in known]

    def members_at(self, channel: str) -> MembersAt:
        """Return who is in a channel, as all events have made them to which an offset is assigned."""
        found, users = self._registry.channels.get(channel), self._registry.users
        members = [users[name].listed for name in found.users] if found is not None else []
        return MembersAt(members, self._log.assigned)

    @property
    def counts(self) -> Counts:
        """How many channels and users are known."""
        return Counts(len(self._registry.channels), len(self._registry.users))
