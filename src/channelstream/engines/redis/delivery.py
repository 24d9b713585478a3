"""From the shards to the receiver: events with their positions, and connections that another node has claimed.

The shards call this, and it calls no shard: it knows only how far each of them has been received.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from channelstream.core.entry import Entry
from channelstream.core.line_limit import LineLimit
from channelstream.core.position import Offsets
from channelstream.engines.base import Receiver
from channelstream.engines.cluster import ClusterReceiver
from channelstream.engines.event_codec import UnreadableEvent
from channelstream.engines.redis import event_text
from channelstream.engines.redis.shard_state import ShardState
from channelstream.engines.redis.skipped import Skipped

logger = logging.getLogger(__name__)


class Delivery:
    """Passes on what the shards receive.

    Attributes:
        receiver: the node, as the log sees it; set before the first shard is linked.
        cluster_receiver: the node, as the cluster sees it; set as early.
        skipped: the events that were found and cannot be read.
        may_execute: whether commands of other nodes are executed; else they wait.
    """

    receiver: Receiver
    cluster_receiver: ClusterReceiver

    def __init__(self, states: Sequence[ShardState], forget: Callable[[str], None]) -> None:
        """Create one without a receiver.

        Args:
            states: those of all shards, in the order of their index.
            forget: called with the id of a connection that this node no longer owns.
        """
        self._states = states
        self._forget = forget
        self._lines = LineLimit()
        self.skipped = Skipped()
        self.may_execute = asyncio.Event()
        self.may_execute.set()

    @property
    def epochs(self) -> tuple[str, ...]:
        return tuple(state.epoch for state in self._states)

    @property
    def offsets(self) -> Offsets:
        """The offsets up to which this node was delivered everything."""
        return tuple(state.offset for state in self._states)

    def deliver(self, shard: int, offset: bytes, at_ms: bytes, text: bytes, payload: bytes) -> bool:
        """Deliver an event; `ShardState.offset` includes it already.

        Returns:
            Whether this version can read it; if not, the caller calls `skip`.
        """
        origin = event_text.Origin(self.epochs, self.offsets, shard)
        entries = self.readable(origin, [(offset, at_ms, text, payload)])
        for entry in entries:
            self.receiver.deliver(entry)
        return bool(entries)

    def skip(self, shard: int, offset: int, places: Collection[event_text.Place]) -> None:
        """Report these logs as lost up to an event of theirs that this version cannot read."""
        self.skipped.add(self._states[shard].epoch, places, offset)
        self.lost(places)

    def lost(self, places: Iterable[event_text.Place]) -> None:
        """Report that this node is not delivered everything of these logs."""
        names = {"c": list[str](), "u": list[str]()}
        for kind, name in places:
            names[kind].append(name)
        self.cluster_receiver.lost(names["c"], names["u"])

    def readable(self, origin: event_text.Origin, answers: Iterable[Sequence[Any]]) -> list[Entry]:
        """Return the entries of answers of the script, without those that this version cannot read."""
        found = list[Entry]()
        for answer in answers:
            try:
                found.append(origin.entry(*answer))
            except UnreadableEvent as error:
                self._report_skipped(error)
        return found

    def _report_skipped(self, error: UnreadableEvent) -> None:
        """Log that an event was skipped: a node of a newer version may publish very many."""
        logger.debug("an event was skipped", exc_info=error)
        if self._lines.admits(time.monotonic()):
            logger.warning(
                "Redis has %s: it is skipped and reported as lost; do all nodes have one version?%s",
                error,
                self._lines.take_omitted(),
            )

    def advance(self) -> None:
        """Report that the offset of a shard has advanced without an event for this node."""
        self.cluster_receiver.advance(self.offsets)

    def log_replaced(self, shard: int) -> None:
        """Report that a shard has another log now."""
        self.cluster_receiver.log_replaced(shard, self.offsets)

    def taken_over(self, conn_id: str) -> None:
        """Report that another node owns a connection."""
        self._forget(conn_id)
        self.cluster_receiver.taken_over(conn_id)
