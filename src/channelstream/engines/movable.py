"""The port to the move of the shared state to another process, as upgrades need it."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from channelstream.engines.members import Leaving, RestoredConnection

OTHER_ENGINE = "the engine has changed: an upgrade cannot change it; restart the service"
"""Why `Movable.receive` and `Movable.take_over` refuse a state."""


class Movable(Protocol):
    """The port to the whole state on its way to another process of this machine, or from one."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in progress that changes the state."""

    def copy(self) -> AsyncIterator[bytes]:
        """Yield the state, for `receive` in another process; when called again, what has changed since.

        All calls are served meanwhile.

        Raises:
            CannotHandOver: this engine does not move now.
        """

    def hand_over(self) -> AsyncIterator[bytes]:
        """Yield what has changed since `copy`; call it while the engine is settled.

        The connections are not a part of it. Afterwards the engine serves no call until `proceed`.

        Raises:
            CannotHandOver: this engine does not move, or not now.
        """

    async def proceed(self) -> None:
        """Serve again after `copy` or `hand_over`: the other process has not taken over, and has ended."""

    def receive(self, record: bytes) -> None:
        """Take a record of `copy`, or of `hand_over`, of the engine of another process.

        Raises:
            CannotHandOver: it is not that of an engine of this kind.
        """

    def build(self, left: Sequence[Leaving], connections: Sequence[RestoredConnection]) -> None:
        """Build the state as far as it is received, which may take long; called several times.

        Args:
            left: connections of earlier calls that are not there any more, or are among the new ones as they are now.

        Raises:
            CannotHandOver: it is not the state of this engine.
        """

    def take_over(self) -> None:
        """Begin with all that was received and built; `start` is called next.

        The other process may still go on. So commands of other nodes wait until `begin`: it would not know what they change.

        Raises:
            CannotHandOver: it is not complete, or not the state of this engine.
        """

    def begin(self) -> None:
        """Execute commands of other nodes: the other process needs nothing back."""
