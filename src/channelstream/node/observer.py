"""What a node tells whoever traces it, besides what is delivered."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from channelstream.core.connection import Connection
from channelstream.core.events import Event
from channelstream.core.log import Entry


class Observer(Protocol):
    """Hears what became of messages and connections; it must not raise."""

    def duplicate(self, event: Event) -> None:
        """A message was published again under a uuid that is kept."""

    def replayed(self, connection: Connection, entries: Sequence[Entry], lost: Iterable[str]) -> None:
        """A connection is sent this part of the log; of the channels `lost` it cannot be."""

    def attached(self, connection: Connection) -> None: ...

    def detached(self, connection: Connection, grace_s: float) -> None: ...

    def stalled(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection, code: int | None, reason: str) -> None: ...
