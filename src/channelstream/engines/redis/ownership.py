"""What this node knows about its connections: whether it owns each, and which shards register it.

Two tables have every change, and this file is pure: Redis is asked elsewhere (`connections.py`, `claims.py`,
`restoring.py`), and the answers become steps here. The node decides which connections it has (`local`).
So a state is stored only where it differs from what follows from that: HERE for a connection of the node, otherwise
ELSEWHERE.
"""

from collections.abc import Callable, Collection
from enum import Enum

from channelstream.engines.redis.registration_index import RegistrationIndex


class Owner(Enum):
    """What this node knows about the owner of a connection; `OWNER_TRANSITIONS` has all changes of it."""

    ELSEWHERE = "elsewhere"
    """It is another node, or there is none."""
    CLAIMING = "claiming"
    """This node is claiming the connection; its reservations must not be released."""
    HERE = "here"
    """It is this node: the directory has said so, and has been in reach since."""
    SUSPECTED = "suspected"
    """It was this node before the directory was out of reach; another node may have claimed the connection since."""


class OwnerStep(Enum):
    """An event that changes what this node knows about an owner."""

    CLAIM = "claim"
    CLAIMED = "claimed"
    FAIL_CLAIM = "fail a claim"
    SUSPECT = "suspect"
    CONFIRM = "confirm"
    FORGET = "forget"


_O, _S = Owner, OwnerStep
OWNER_TRANSITIONS: dict[tuple[Owner, OwnerStep], Owner] = {
    (_O.ELSEWHERE, _S.CLAIM): _O.CLAIMING,
    (_O.CLAIMING, _S.CLAIM): _O.CLAIMING,
    (_O.HERE, _S.CLAIM): _O.HERE,
    (_O.SUSPECTED, _S.CLAIM): _O.SUSPECTED,
    (_O.ELSEWHERE, _S.CLAIMED): _O.ELSEWHERE,
    (_O.CLAIMING, _S.CLAIMED): _O.HERE,
    (_O.HERE, _S.CLAIMED): _O.HERE,
    (_O.SUSPECTED, _S.CLAIMED): _O.HERE,
    (_O.ELSEWHERE, _S.FAIL_CLAIM): _O.ELSEWHERE,
    (_O.CLAIMING, _S.FAIL_CLAIM): _O.ELSEWHERE,
    (_O.HERE, _S.FAIL_CLAIM): _O.HERE,
    (_O.SUSPECTED, _S.FAIL_CLAIM): _O.SUSPECTED,
    (_O.ELSEWHERE, _S.SUSPECT): _O.ELSEWHERE,
    (_O.CLAIMING, _S.SUSPECT): _O.CLAIMING,
    (_O.HERE, _S.SUSPECT): _O.SUSPECTED,
    (_O.SUSPECTED, _S.SUSPECT): _O.SUSPECTED,
    (_O.ELSEWHERE, _S.CONFIRM): _O.ELSEWHERE,
    (_O.CLAIMING, _S.CONFIRM): _O.CLAIMING,
    (_O.HERE, _S.CONFIRM): _O.HERE,
    (_O.SUSPECTED, _S.CONFIRM): _O.HERE,
    (_O.ELSEWHERE, _S.FORGET): _O.ELSEWHERE,
    (_O.CLAIMING, _S.FORGET): _O.CLAIMING,  # Another node's claim was announced before the end of this one.
    (_O.HERE, _S.FORGET): _O.ELSEWHERE,
    (_O.SUSPECTED, _S.FORGET): _O.ELSEWHERE,
}
"""Every transition. A claim that fails proves nothing about a connection that the node has."""

STORED = frozenset({Owner.CLAIMING, Owner.SUSPECTED})
"""States that do not follow from the connections that the node has."""


class Ownership:
    """The owners and registrations of connections.

    Attributes:
        registrations: the shards of each connection.
        local: returns the connections that the node has; set before the first shard is linked.
    """

    local: Callable[[], Collection[str]]

    def __init__(self, shards: int) -> None:
        self.registrations = RegistrationIndex(shards)
        self._stored: dict[str, Owner] = {}

    def owner(self, conn_id: str) -> Owner:
        stored = self._stored.get(conn_id)
        if conn_id in self.local():
            return stored or Owner.HERE
        # The node has released it to another node, and the message about the claim may be lost.
        return OWNER_TRANSITIONS[stored or Owner.ELSEWHERE, OwnerStep.FORGET]

    def is_ours(self, conn_id: str) -> bool:
        """Return whether this node has a connection or is claiming it: nothing of it may be released here."""
        return self.owner(conn_id) is not Owner.ELSEWHERE

    def move(self, conn_id: str, step: OwnerStep) -> None:
        after = OWNER_TRANSITIONS[self.owner(conn_id), step]
        if after in STORED:
            self._stored[conn_id] = after
        else:
            self._stored.pop(conn_id, None)

    def forget(self, conn_id: str) -> None:
        """Forget everything about a connection that this node no longer has."""
        self.move(conn_id, OwnerStep.FORGET)
        self.registrations.forget(conn_id)

    def count_matches(self, shard: int, count: int) -> bool:
        """Return whether a shard seems to register the right connections. Only their numbers are compared."""
        return not self.has_stale() and count == self.registrations.counts[shard]

    def has_stale(self) -> bool:
        """Return whether registrations of other connections may be known: only the numbers are compared."""
        return self.registrations.has_stale(self.local())
