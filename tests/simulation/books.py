"""Parts of the product that keep books for the checker: who was where and when, and what the budget threw out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from channelstream.core.channel import Channel
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.log import Budget, Log
from channelstream.core.position import Position, Reach
from channelstream.core.registry import Registry
from channelstream.engines.base import PRIVATE, Member, UserChange, UserUpdate
from channelstream.engines.memory import MemoryEngine


@dataclass(slots=True)
class Stay:
    """One stay of a connection in a channel, or with its private messages, by the numbers of the log.

    Attributes:
        asked: when the node was asked for it.
        joined: when the engine counted it in; None until then.
        named: from where the application lets it read; -1 where it named no position of this log, None where it named none.
        left: None while it lasts.
    """

    asked: int
    joined: int | None = None
    named: int | None = None
    left: int | None = None

    @property
    def bound(self) -> int:
        """What it may read comes after this."""
        return self.asked if self.named is None or self.named < 0 else min(self.asked, self.named)

    @property
    def owed_after(self) -> int | None:
        """The first stream that asks for everything is owed what comes after this; None: nothing yet."""
        return self.joined if self.named is None or self.named < 0 else self.named

    def is_unproven(self, start: int) -> bool:
        """Whether nobody can say what a client that resumes from here has missed before it joined."""
        return self.named == -1 and self.joined is not None and start < self.joined


class BookedHub(Hub):
    """The product's hub, which also remembers every stay."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stays: dict[tuple[str, str], list[Stay]] = {}

    def subscribe(self, connection: Connection, channel: str, reach: Reach) -> None:
        self._stays.setdefault((connection.id, channel), []).append(Stay(self.seqs[0]))
        super().subscribe(connection, channel, reach)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        self._stays[connection.id, channel][-1].left = self.seqs[0]
        super().unsubscribe(connection, channel)

    def add(self, connection: Connection) -> None:
        self._stays[connection.id, PRIVATE] = [Stay(self.seqs[0])]
        super().add(connection)

    def stays(self, conn_id: str, channel: str) -> list[Stay]:
        """Return the stays of a connection in a channel, in order; of the private messages there is one."""
        return self._stays.get((conn_id, channel), [])


class BookedEngine(MemoryEngine):
    """The product's engine, which also remembers when it counted whom in, and what the application named then."""

    hub: BookedHub

    async def connect(
        self, member: Member, update: UserUpdate, since: Position | None = None
    ) -> UserChange | None:
        self._note(member, [PRIVATE], since)
        return await super().connect(member, update, since)

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        self._note(member, channels, since)
        return await super().join(member, channels, since)

    def _note(self, member: Member, names: Iterable[str], since: Position | None) -> None:
        seq = self.position.seqs[0]
        for name in names:
            for stay in self.hub.stays(member.conn_id, name)[-1:]:
                stay.joined = seq
                if since is not None:
                    is_here = since.epochs == self.position.epochs and since.seqs[0] <= seq
                    stay.named = since.seqs[0] if is_here else -1


class BookedBudget(Budget):
    """The product's budget, which also counts how often it was exceeded."""

    exceeded = 0

    def added(self, log: Log, size: int) -> None:
        self.exceeded += self.used_bytes + size > self.limit_bytes
        super().added(log, size)


class BookedRegistry(Registry):
    """The product's registry, which also counts how often each channel was configured."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.budget: BookedBudget = BookedBudget(self.limits.log_bytes)
        self.configured: dict[str, int] = {}

    def configure(self, name: str, *more: Any) -> Channel:
        self.configured[name] = self.configured.get(name, 0) + 1
        return super().configure(name, *more)
