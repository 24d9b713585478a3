"""What a node reports to a trace, besides the events that it delivers."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from channelstream.core.connection import Connection
from channelstream.core.events import Event
from channelstream.core.log import Entry


class Observer(Protocol):
    """Receives what happens to messages and connections; must not raise."""

    def duplicate(self, event: Event) -> None:
        """A message was published with a uuid that the log holds, and was not delivered again."""

    def replayed(self, connection: Connection, entries: Sequence[Entry], lost: Iterable[str]) -> None:
        """A connection is sent these entries of the log; of the channels in `lost` events are missing."""

    def attached(self, connection: Connection) -> None: ...

    def detached(self, connection: Connection, grace_s: float) -> None: ...

    def stalled(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection, code: int | None, reason: str) -> None: ...
