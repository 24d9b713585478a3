"""Which shards should have which connections of this node registered: those of its id, its user and its channels.

The index follows the replies of the shards, so it may be wrong after a lost reply: then the connection is unconfirmed in
that shard until the reconciler has restored it. The index exists so that each heartbeat compares one number per shard
instead of a million ids. A bit mask for each connection keeps it small.
"""

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from itertools import islice

BATCH = 1000
"""Connections in one batch of an iteration; the event loop runs other work between two batches."""


class Registration(Enum):
    """A connection of this node in one shard; `REGISTRATION_TRANSITIONS` has all changes of it."""

    NONE = "none"
    """The shard should not register it."""
    REGISTERED = "registered"
    """The shard registers it."""
    UNCONFIRMED = "unconfirmed"
    """The shard has registered it, and the outcome of a later call is unknown."""
    UNKNOWN = "unknown"
    """The shard may register it: the outcome of the only call is unknown."""


class RegistrationStep(Enum):
    """An event that changes what this node knows about a registration."""

    REGISTER = "register"
    UNREGISTER = "unregister"
    FAIL = "fail"
    SETTLE = "settle"


_R, _S = Registration, RegistrationStep
REGISTRATION_TRANSITIONS: dict[tuple[Registration, RegistrationStep], Registration] = {
    (_R.NONE, _S.REGISTER): _R.REGISTERED,
    (_R.REGISTERED, _S.REGISTER): _R.REGISTERED,
    (_R.UNCONFIRMED, _S.REGISTER): _R.UNCONFIRMED,
    (_R.UNKNOWN, _S.REGISTER): _R.UNCONFIRMED,
    (_R.NONE, _S.UNREGISTER): _R.NONE,
    (_R.REGISTERED, _S.UNREGISTER): _R.NONE,
    (_R.UNCONFIRMED, _S.UNREGISTER): _R.UNKNOWN,
    (_R.UNKNOWN, _S.UNREGISTER): _R.UNKNOWN,
    (_R.NONE, _S.FAIL): _R.UNKNOWN,
    (_R.REGISTERED, _S.FAIL): _R.UNCONFIRMED,
    (_R.UNCONFIRMED, _S.FAIL): _R.UNCONFIRMED,
    (_R.UNKNOWN, _S.FAIL): _R.UNKNOWN,
    (_R.NONE, _S.SETTLE): _R.NONE,
    (_R.REGISTERED, _S.SETTLE): _R.REGISTERED,
    (_R.UNCONFIRMED, _S.SETTLE): _R.REGISTERED,
    (_R.UNKNOWN, _S.SETTLE): _R.NONE,
}
"""Every transition. SETTLE is made before the call that restores a connection: another call may fail meanwhile."""

EXPECTED = frozenset({Registration.REGISTERED, Registration.UNCONFIRMED})
"""The shard should register the connection."""
TO_RESTORE = frozenset({Registration.UNCONFIRMED, Registration.UNKNOWN})
"""The reconciler has to restore the connection in the shard."""
_STATES = {(state in EXPECTED, state in TO_RESTORE): state for state in Registration}


class RegistrationIndex:
    """The shards of each connection, as far as this node knows.

    Attributes:
        counts: for each shard, how many connections it should register for this node.
        unconfirmed: for each shard, the connections that the reconciler has to restore in it.
    """

    def __init__(self, shards: int) -> None:
        self.counts = [0] * shards
        self.unconfirmed: list[set[str]] = [set() for _ in range(shards)]
        self._masks: dict[str, int] = {}

    def state(self, conn_id: str, shard: int) -> Registration:
        return _STATES[self.has(conn_id, shard), conn_id in self.unconfirmed[shard]]

    def move(self, conn_id: str, shard: int, step: RegistrationStep) -> None:
        before = self.state(conn_id, shard)
        after = REGISTRATION_TRANSITIONS[before, step]
        if (after in EXPECTED) != (before in EXPECTED):
            self._flip(conn_id, shard)
        if after in TO_RESTORE:
            self.unconfirmed[shard].add(conn_id)
        else:
            self.unconfirmed[shard].discard(conn_id)

    def _flip(self, conn_id: str, shard: int) -> None:
        """Change whether a shard should register a connection."""
        mask = self._masks.get(conn_id, 0) ^ 1 << shard
        self.counts[shard] += 1 if mask >> shard & 1 else -1
        if mask:
            self._masks[conn_id] = mask
        else:
            del self._masks[conn_id]

    def has(self, conn_id: str, shard: int) -> bool:
        """Return whether a shard should register a connection."""
        return bool(self._masks.get(conn_id, 0) >> shard & 1)

    def forget(self, conn_id: str) -> None:
        for shard in self.shards(conn_id):
            self.counts[shard] -= 1
        self._masks.pop(conn_id, None)
        for unconfirmed in self.unconfirmed:
            unconfirmed.discard(conn_id)

    def masks(self) -> dict[str, int]:
        """Return the shards of each connection, as bits of a number."""
        return dict(self._masks)

    def restore(self, masks: Mapping[str, int]) -> None:
        """Fill an empty index with what `masks` has returned."""
        for conn_id, mask in masks.items():
            for shard in range(len(self.counts)):
                if mask >> shard & 1:
                    self._flip(conn_id, shard)

    def shards(self, conn_id: str) -> list[int]:
        """Return the shards that should register a connection."""
        return [shard for shard in range(len(self.counts)) if self.has(conn_id, shard)]

    def has_stale(self, local: Collection[str]) -> bool:
        """Return whether the index may have connections that the node no longer has: only the numbers are compared."""
        return len(local) != len(self._masks)

    def batches(self) -> Iterator[list[str]]:
        """Yield all connections, in batches."""
        everything = iter(list(self._masks))
        while batch := list(islice(everything, BATCH)):
            yield batch

    def batches_in(self, shard: int) -> Iterator[list[str]]:
        """Yield the connections a shard should register, in batches, some of them empty."""
        for batch in self.batches():
            yield [conn_id for conn_id in batch if self._masks.get(conn_id, 0) >> shard & 1]
