"""Which facts the webhooks of each application report, so that an engine keeps no others."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from channelstream.apps.keys import app_id_of, is_apart_key, is_member_key, name_of
from channelstream.core.facts import ENDS, ConnectionClosed, ConnectionOpened, Fact, kind_of

OF_CONNECTIONS = frozenset((kind_of(ConnectionOpened), kind_of(ConnectionClosed)))
"""The tags of the facts about connections."""


@dataclass(frozen=True, slots=True)
class AppFacts:
    """The facts that one application wants.

    Attributes:
        kinds: tags of types of facts (`core/facts.py`); one that ends another is wanted with it, and the other way round.
        hidden: prefixes of the names of channels and users about which nothing is reported, since they are internal.
    """

    kinds: frozenset[str]
    hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Complete the pairs: whether something has ended is known only where its beginning is."""
        pairs = [{kind_of(begun), kind_of(ended)} for begun, ended in ENDS.items()]
        whole = self.kinds.union(*(pair for pair in pairs if pair & self.kinds))
        object.__setattr__(self, "kinds", whole)


@dataclass(frozen=True, slots=True)
class WantedFacts:
    """The facts that each application wants, by its id; an application that is not here wants none."""

    apps: Mapping[str, AppFacts] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether any are wanted."""
        return any(each.kinds for each in self.apps.values())

    def wants(self, kind: str, key: str) -> bool:
        """Return whether facts of this kind are wanted about the channel or user with this key.

        Those about users never are if the user is a member of one channel only: that is reported with the channel. Of a user
        who belongs to one connection, this connection is reported.
        """
        wanted = self.apps.get(app_id_of(key))
        if wanted is None or kind not in wanted.kinds or name_of(key).startswith(wanted.hidden):
            return False
        return not is_member_key(key) or (kind in OF_CONNECTIONS and is_apart_key(key))


def app_of(fact: Fact) -> str:
    """Return the id of the application that a fact is about."""
    return app_id_of(fact.place)


NOTHING_WANTED = WantedFacts()
"""No application wants any fact."""
