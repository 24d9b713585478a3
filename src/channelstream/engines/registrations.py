"""Changes of connections that wait to be written to a disk."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from channelstream.core.position import ReadRange
from channelstream.engines.members import Member


@dataclass(slots=True, eq=False)
class Registrations:
    """The last change of each connection, and of each of its channels.

    Attributes:
        ended: ids of connections that are deleted, before all other changes.
        connected: new connections by id, each with the read range of its user's private messages.
        channels: by id, joined channels with their read ranges; None for channels that were left.
        size: about how many rows all of it is.
    """

    ended: set[str] = field(default_factory=set)
    connected: dict[str, tuple[Member, ReadRange]] = field(default_factory=dict)
    channels: dict[str, dict[str, ReadRange | None]] = field(default_factory=dict)
    size: int = 0

    def connect(self, member: Member, private: ReadRange) -> None:
        self.connected[member.conn_id] = (member, private)
        self.size += 1

    def join(self, conn_id: str, channels: Mapping[str, ReadRange]) -> None:
        self.channels.setdefault(conn_id, {}).update(channels)
        self.size += len(channels)

    def leave(self, conn_id: str, channels: Iterable[str]) -> None:
        left: dict[str, ReadRange | None] = dict.fromkeys(channels)
        self.channels.setdefault(conn_id, {}).update(left)
        self.size += len(left)

    def end(self, conn_id: str) -> None:
        """Delete a connection; one that is registered under its id afterwards is another one."""
        self.connected.pop(conn_id, None)
        self.channels.pop(conn_id, None)
        self.ended.add(conn_id)
        self.size += 1

    def add(self, later: "Registrations") -> None:
        """Add changes that were made after these."""
        for conn_id in later.ended:
            self.end(conn_id)
        self.connected |= later.connected
        for conn_id, channels in later.channels.items():
            self.channels.setdefault(conn_id, {}).update(channels)
        self.size += later.size
