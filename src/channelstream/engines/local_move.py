"""The state of an engine of one process, on its way to another process or from one (`Movable`).

What reads the state is imported at the start: when it moves, another version may be on the disk. What builds it is imported
when it is expected: most processes of the memory engine never do that.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from channelstream.core.registry import Registry
from channelstream.engines.base import Clock
from channelstream.engines.local_log import LocalLog
from channelstream.engines.members import Leaving, RestoredConnection
from channelstream.engines.movable import OTHER_ENGINE
from channelstream.engines.moved_state import OutgoingState
from channelstream.errors import CannotHandOver

if TYPE_CHECKING:
    from channelstream.engines.incoming_state import IncomingState, TakenState


class LocalMove:
    """A copy of the state here that another process has, or the state of another process as far as it is here."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._outgoing: OutgoingState | None = None
        self._incoming: IncomingState | None = None

    # -- to another process

    @property
    def is_copied(self) -> bool:
        """Whether the other process has a copy, or a part of it."""
        return self._outgoing is not None

    def copy(self, log: LocalLog, clock_offset_s: float = 0.0) -> AsyncIterator[bytes]:
        """Yield the state, and when called again what has changed since.

        Args:
            clock_offset_s: seconds from the engine's clock to that of the records.
        """
        self._outgoing = self._outgoing or OutgoingState(self._registry, self._clock, clock_offset_s)
        return self._outgoing.copy(log.position.epochs[0], log.committed)

    def rest(self, log: LocalLog) -> AsyncIterator[bytes]:
        """Yield what has changed since `copy`; nothing changes meanwhile."""
        assert self._outgoing is not None  # noqa: S101 - `copy` is called before
        return self._outgoing.rest(log.committed)

    def forget(self) -> None:
        """Forget what was copied: the state is still here."""
        self._outgoing = None

    # -- from another process

    @property
    def is_expected(self) -> bool:
        """Whether `expect` was called."""
        return self._incoming is not None

    def expect(self) -> None:
        """Take the records that come next: they are those of an engine of the same kind."""
        from channelstream.engines.incoming_state import IncomingState

        self._incoming = IncomingState(self._registry, self._clock)

    def receive(self, record: bytes) -> None:
        """Take a record; see `Movable.receive`."""
        self._expected().add(record)

    def build(self, left: Sequence[Leaving], connections: Sequence[RestoredConnection]) -> None:
        """Build the registry as far as it is received; see `Movable.build`."""
        self._expected().build(left, connections)

    def finish(self) -> "TakenState":
        """Complete the registry; see `Movable.take_over`."""
        incoming, self._incoming = self._expected(), None
        return incoming.finish()

    def _expected(self) -> "IncomingState":
        if self._incoming is None:
            raise CannotHandOver(OTHER_ENGINE)
        return self._incoming
