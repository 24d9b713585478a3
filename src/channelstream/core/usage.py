"""How much of a node the owners of connections and channels use."""

from collections import Counter
from collections.abc import Callable


class Usage:
    """Counts what each owner has.

    Attributes:
        owner_of: returns the owner of a connection id or a channel.
        connections: of each owner.
        channels: with a connection at this node.
    """

    __slots__ = ("channels", "connections", "owner_of")

    def __init__(self, owner_of: Callable[[str], str] = lambda key: "") -> None:
        """Create the counts of a node without connections.

        Args:
            owner_of: by default all is one owner's.
        """
        self.owner_of = owner_of
        self.connections: Counter[str] = Counter()
        self.channels: Counter[str] = Counter()
