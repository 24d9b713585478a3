"""How a node moves to another process of this machine: the state of its engine, and its connections.

The old process yields records: of all, while everything is served, and at the end of what has changed. The new one takes
them, builds the node of them meanwhile, and starts with what they say, in place of `Node.start`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import chain

from channelstream.core.hub import Hub
from channelstream.engines.base import Clock
from channelstream.engines.movable import Movable
from channelstream.errors import CannotHandOver
from channelstream.service.local import LocalConnections
from channelstream.service.moving import IncomingConnections, OutgoingConnections


class NodeMove:
    """The state and the connections of a node, on their way to another process or from one."""

    def __init__(
        self,
        engine: Movable,
        epochs: Callable[[], tuple[str, ...]],
        hub: Hub,
        local: LocalConnections,
        clock: Clock,
        start_engine: Callable[[], Awaitable[None]],
    ) -> None:
        """Create it for a node that serves, or is about to start.

        Args:
            epochs: returns those of the log.
            start_engine: lets the engine deliver to the node.
        """
        self._engine = engine
        self._epochs_now = epochs
        self._hub = hub
        self._local = local
        self._clock = clock
        self._start_engine = start_engine
        self._outgoing: OutgoingConnections | None = None
        self._incoming = IncomingConnections(hub, local)
        self._epochs: tuple[str, ...] = ()

    @property
    def log_is_replaced(self) -> bool:
        """Whether a log was replaced since the streams were suspended.

        Race: the engine may lose its log before they go on, here or in the other process. Until then their connections have
        no stream that `ClusterReceiver.log_replaced` could close, and would read the new log as if they had missed nothing.
        """
        return self._epochs_now() != self._epochs

    # -- to another process

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in progress that changes connections, or the state of the engine."""
        return self._local.is_settled and self._engine.is_settled

    def copied_connections(self) -> Iterator[bytes]:
        """Yield all connections, for `receive_connection`, while everything is served; then what has changed."""
        self._outgoing = self._outgoing or OutgoingConnections(self._hub)
        return self._outgoing.changes()

    def moved_connections(self) -> Iterator[bytes]:
        """Yield what has changed of the connections, and all positions; all streams are suspended."""
        assert self._outgoing is not None  # noqa: S101 - `copied_connections` is called before
        return chain(self._outgoing.changes(), self._outgoing.positions(self._epochs, self._clock.steady()))

    def note_epochs(self) -> None:
        """Note in which logs the positions of all streams are, before the first one is suspended."""
        self._epochs = self._epochs_now()

    def copied_state(self) -> AsyncIterator[bytes]:
        """Yield the state of the engine, for `receive`, while everything is served; then what has changed."""
        return self._engine.copy()

    def moved_state(self) -> AsyncIterator[bytes]:
        """Yield what has changed of the state of the engine; afterwards it serves no call until `proceed`.

        Raises:
            CannotHandOver: the engine cannot move.
        """
        return self._engine.hand_over()

    async def proceed(self) -> None:
        """Serve again after `copied_state` or `moved_state`, of which nothing came."""
        self._outgoing = None
        await self._engine.proceed()

    # -- from another process

    def receive(self, record: bytes) -> None:
        """Take a record of the state of another process.

        Raises:
            CannotHandOver: it is that of another engine.
        """
        self._engine.receive(record)

    def receive_connection(self, record: bytes) -> None:
        """Take a record of the connections of another process.

        Raises:
            CannotHandOver: it is that of another version.
        """
        try:
            self._incoming.receive(record)
        except ValueError as error:
            raise CannotHandOver("a connection cannot be read") from error

    async def build(self) -> None:
        """Build the state and the connections as far as they are received; called several times.

        Raises:
            CannotHandOver: the state cannot be used.
        """
        left, connections = self._incoming.changes()
        self._engine.build(left, connections)
        await self._incoming.apply(left, connections)

    async def take(self) -> None:
        """Start with all that was received, in place of `Node.start`; commands of other nodes wait until `begin`.

        Raises:
            ConfigError, CannotHandOver: the state cannot be used.
        """
        await self.build()
        self._engine.take_over()
        # First: an engine of many nodes registers the connections that this node has, and unregisters all others.
        try:
            self._incoming.position()
        except (ValueError, KeyError) as error:
            raise CannotHandOver("the positions of the connections are not complete") from error
        epochs, self._incoming = self._incoming.epochs, IncomingConnections(self._hub, self._local)
        await self._start_engine()
        self._epochs = epochs or self._epochs_now()

    def begin(self) -> None:
        """Execute commands of other nodes: the other process needs nothing back."""
        self._engine.begin()
