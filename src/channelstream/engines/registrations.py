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
        size: how many rows all of it is.
    """

    ended: set[str] = field(default_factory=set)
    connected: dict[str, tuple[Member, ReadRange]] = field(default_factory=dict)
    channels: dict[str, dict[str, ReadRange | None]] = field(default_factory=dict)
    size: int = 0

    def connect(self, member: Member, private: ReadRange) -> None:
        self.size += member.conn_id not in self.connected
        self.connected[member.conn_id] = (member, private)

    def join(self, conn_id: str, channels: Mapping[str, ReadRange]) -> None:
        self._change(conn_id, channels)

    def leave(self, conn_id: str, channels: Iterable[str]) -> None:
        self._change(conn_id, dict.fromkeys(channels))

    def _change(self, conn_id: str, channels: Mapping[str, ReadRange | None]) -> None:
        changed = self.channels.setdefault(conn_id, {})
        self.size -= len(changed)
        changed.update(channels)
        self.size += len(changed)

    def end(self, conn_id: str) -> None:
        """Delete a connection; one that is registered under its id afterwards is another one."""
        self.size -= len(self.channels.pop(conn_id, ()))
        if self.connected.pop(conn_id, None) is not None:
            self.size -= 1  # It has never been written.
        elif conn_id not in self.ended:
            self.ended.add(conn_id)
            self.size += 1

    def add(self, later: "Registrations") -> None:
        """Add changes that were made after these."""
        for conn_id in later.ended:
            self.end(conn_id)
        for member, private in later.connected.values():
            self.connect(member, private)
        for conn_id, channels in later.channels.items():
            self._change(conn_id, channels)
