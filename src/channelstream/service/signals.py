"""What a node announces about messages and connections, to any number of consumers.

A consumer (a trace, the metrics) connects functions to the signals that it needs. The code that emits a
signal does not know its consumers, and depends on none of them: an exception of a consumer is logged, and what the
signal announces goes its way. A consumer runs inside the code that emits: it must be short, and neither await nor block.
A signal without consumers costs a call. The hot path does not even have that: while nobody consumes `accepted` or
`delivered`, the engine calls the hub itself (`Node.deliver`).

The signals are those of one node, and of its streams as they are:

- A shared engine delivers an event to every node that has a recipient. So each of these nodes announces it, and none
  does if nobody is there. Events that the engine reports as lost are not announced.
- A connection that moves to another node ends here. A long poll attaches and detaches with every answer.
- Each read of a catch-up is announced, before the entries that its client does not receive are left out.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, ParamSpec

from channelstream.core.connection import Connection, Stream
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.node_status import NodeStatus

P = ParamSpec("P")

logger = logging.getLogger(__name__)


class Signal(Generic[P]):
    """One kind of announcement."""

    __slots__ = ("_consumers", "_on_change")

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Create a signal without consumers.

        Args:
            on_change: called after a consumer was connected or disconnected.
        """
        self._consumers: tuple[Callable[P, None], ...] = ()
        self._on_change = on_change

    def __bool__(self) -> bool:
        """Whether it has consumers."""
        return bool(self._consumers)

    def connect(self, consumer: Callable[P, None]) -> None:
        """Call `consumer` with each announcement from now on, after the consumers connected before."""
        self._consumers = (*self._consumers, consumer)
        self._on_change()

    def disconnect(self, consumer: Callable[P, None]) -> None:
        """Call `consumer` no longer. It may disconnect itself while it is called."""
        self._consumers = tuple(other for other in self._consumers if other != consumer)
        self._on_change()

    def emit(self, *arguments: P.args, **named: P.kwargs) -> None:
        """Call every consumer."""
        for consumer in self._consumers:
            try:
                consumer(*arguments, **named)
            except Exception:
                logger.exception("a consumer of a signal has failed")


class Signals:
    """The signals of one node.

    Attributes:
        accepted: an entry arrives and is delivered next; the connections are still in the state before it.
        delivered: an entry was delivered to so many connections of this node, and is written with the next flush.
        duplicate: a message was published with a uuid that the log holds, and is not delivered again.
        replayed: these entries of the log were read for a connection; events of these channels are missing.
        attached: a connection has a stream.
        detached: a connection has lost its stream, and ends after so many seconds unless another one attaches.
        closed: a WebSocket or an event stream has ended with this close code; None if its socket was lost without one.
        stalled: the client of a connection reads too slowly; its events are read from the log later.
        node_died: this node has found that another one is dead, and has unregistered so many connections of it; None if
            that is not known.
        log_replaced: another log is in the place of the shared one, or of a part of it; what the engine kept may be lost.
        ended: a connection, or one of its streams, has ended here with this close code, if there is one, and reason.
    """

    __slots__ = (
        "accepted",
        "attached",
        "closed",
        "delivered",
        "detached",
        "duplicate",
        "ended",
        "log_replaced",
        "node_died",
        "replayed",
        "stalled",
    )

    def __init__(self, on_delivery_change: Callable[[], None]) -> None:
        """Create the signals.

        Args:
            on_delivery_change: called when `accepted` or `delivered` gets a consumer or loses one.
        """
        self.accepted: Signal[[Entry]] = Signal(on_delivery_change)
        self.delivered: Signal[[Entry, int]] = Signal(on_delivery_change)
        self.duplicate: Signal[[Event]] = Signal()
        self.replayed: Signal[[Connection, Sequence[Entry], Iterable[str]]] = Signal()
        self.attached: Signal[[Connection]] = Signal()
        self.detached: Signal[[Connection, float]] = Signal()
        self.closed: Signal[[Stream, int | None]] = Signal()
        self.stalled: Signal[[Connection]] = Signal()
        self.log_replaced: Signal[[]] = Signal()
        self.ended: Signal[[Connection, int | None, str]] = Signal()
        self.node_died: Signal[[NodeStatus, int | None]] = Signal()
