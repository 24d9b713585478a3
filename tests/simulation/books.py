"""Parts of the product that keep books for the checker: who was where and when, and what the budget threw out."""

from dataclasses import dataclass
from typing import Any

from channelstream.core.channel import Channel
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.log import Budget, Log
from channelstream.core.registry import Registry


@dataclass(slots=True)
class Stay:
    """One stay of a connection in a channel, by the numbers of the log; `left` is None while it lasts."""

    joined: int
    left: int | None = None


class BookedHub(Hub):
    """The product's hub, which also remembers every stay."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stays: dict[tuple[str, str], list[Stay]] = {}

    def subscribe(self, connection: Connection, channel: str, joined: int) -> None:
        self._stays.setdefault((connection.id, channel), []).append(Stay(joined))
        super().subscribe(connection, channel, joined)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        self._stays[connection.id, channel][-1].left = self.seqs[0]
        super().unsubscribe(connection, channel)

    def stays(self, connection: Connection, channel: str) -> list[Stay]:
        """Return the stays of a connection in a channel, in order."""
        return self._stays.get((connection.id, channel), [])


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
