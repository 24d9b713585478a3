"""The port to the outbox: the facts that webhooks have not sent yet, and which node sends them.

The facts about members are kept by the step that changes the membership: in one process in the same turn of the event
loop, with SQLite in the same transaction, in Redis by the same script. A node appends the facts that it makes itself. The
facts of one channel are in one shard, in order.

The facts of each application are kept apart. Each of its consumers, which are receivers of webhooks, reads from its own
cursor. Facts stay until every consumer of their application has passed them, and an engine that outlives its process keeps
them, and the cursors, over a restart. Beyond the bounds of `OutboxSettings` the oldest of the application are dropped and
counted: a receiver that is down costs another application nothing. Where all applications together keep too much, the oldest
of the one that keeps most are: so one that keeps less than an equal share loses nothing.

One node at a time holds the lease and sends. It gets a token, which grows with each holder: `settle` refuses the token of a
former holder, so a node that was paused and comes back cannot set cursors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from channelstream.apps.wanted_facts import NOTHING_WANTED, WantedFacts
from channelstream.core.facts import Fact


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """What an outbox keeps.

    Attributes:
        wanted: the facts about members that are made; without any, membership costs as much as without an outbox.
        most_facts: of an application, in each shard.
        most_bytes: likewise.
        total_facts: of all applications, in each shard.
        total_bytes: likewise.
        kept_s: how long a shared engine keeps the facts if no node appends any more; longer than webhooks are repeated.
    """

    wanted: WantedFacts = NOTHING_WANTED
    most_facts: int = 100_000
    most_bytes: int = 64 << 20
    total_facts: int = 400_000
    total_bytes: int = 256 << 20
    kept_s: float = 172_800.0


Cursor = tuple[int, ...]
"""For each shard the number of the last fact that was passed."""
CursorsOfApps = Mapping[str, Mapping[str, Cursor]]
"""The cursors of all consumers by their names, for each application that has any, by its id."""


class Kept(NamedTuple):
    """A fact in the outbox.

    Attributes:
        number: grows within its shard, with gaps.
        fact: None if this version does not know its kind.
    """

    shard: int
    number: int
    fact: Fact | None


class OutboxState(NamedTuple):
    """How much an outbox keeps, of all applications in all shards.

    Attributes:
        facts: how many.
        bytes: their bytes.
        dropped: how many were dropped since they were too many, in all times.
    """

    facts: int
    bytes: int
    dropped: int


class Outbox(Protocol):
    """The port. Its methods raise `Unavailable` when the engine is out of reach."""

    @property
    def beginning(self) -> Cursor:
        """The cursor before everything."""

    async def append(self, facts: Sequence[Fact]) -> None:
        """Keep facts that this node has made. When `Unavailable` is raised, some of them may be kept."""

    async def read(self, app_id: str, after: Cursor, limit: int) -> list[Kept]:
        """Return the oldest facts of an application after a cursor, in order within each shard: at most `limit` of each."""

    async def cursors(self) -> dict[str, Cursor]:
        """Return the cursor of each consumer; a consumer that has none begins at `beginning`."""

    async def settle(self, token: int, cursors: CursorsOfApps) -> bool:
        """Set the cursors of all consumers, forget those of others, and drop what all of an application have passed.

        Args:
            token: of the lease.
            cursors: the facts of an application that is not named are dropped.

        Returns:
            False if another node holds the lease, or has held it since: nothing has changed in at least one shard.
        """

    async def hold(self, ttl_s: float) -> int | None:
        """Hold the lease for so many seconds from now on, unless another node holds it; return the token, or None."""

    async def release(self) -> None:
        """Give the lease up, if this node holds it, so that another one can hold it at once."""

    async def state(self) -> OutboxState:
        """Return how much is kept."""


def passed(cursor: Cursor, facts: Iterable[Kept]) -> Cursor:
    """Return a cursor that has passed these facts, too."""
    numbers = list(cursor)
    for each in facts:
        numbers[each.shard] = max(numbers[each.shard], each.number)
    return tuple(numbers)


def merged(cursors: CursorsOfApps) -> dict[str, Cursor]:
    """Return the cursors of the consumers of all applications."""
    return {name: cursor for each in cursors.values() for name, cursor in each.items()}


def passed_by_all(cursors: CursorsOfApps, shard: int) -> dict[str, int]:
    """Return the number up to which all consumers of an application have passed a shard, for each that has consumers."""
    return {
        app_id: min(cursor[shard] for cursor in each.values()) for app_id, each in cursors.items() if each
    }
