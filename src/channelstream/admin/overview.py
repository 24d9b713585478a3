"""The figures of the whole service: each node answers with its own, and the node of the page adds them up."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from channelstream import __version__
from channelstream.admin.open_descriptors import descriptor_limit, open_descriptors
from channelstream.admin.sampler import Sampler
from channelstream.admin.shared_reading import SharedReading
from channelstream.admin.slow import SlowClients
from channelstream.errors import Unavailable
from channelstream.service import Counts, Node
from channelstream.service.remote_calls import NodeResult
from channelstream.transports.streams import Streams

PROCEDURE = "figures"


class Figures(Struct, frozen=True):
    """The figures of one node.

    Attributes:
        users: users with a connection at this node.
        channels: channels with a connection at this node.
        published, deliveries: messages accepted and events delivered since its start.
        uptime_s: seconds since its start.
        slow_clients: those that read too slowly now.
        written: events written to streams since its start.
        taken_bytes, dropped_bytes: bytes of them that sockets took, and those that streams held when they ended.
        replayed: events read from the log for clients that missed them, since its start.
        lost: channels that clients were sent as lost.
        descriptors, descriptor_limit: descriptors that it has open, and may have.
        engine: its name.
        engine_reachable, engine_for_s: whether it is in reach, and for how many seconds it is so; None for one that
            cannot be out of reach.
        longest_turn_ms: of its event loop since its start.
    """

    version: str
    uptime_s: int
    connections: int
    streams: int
    users: int
    channels: int
    published: int
    deliveries: int
    slow_turns: int
    longest_turn_ms: float
    pauses: int
    slow_clients: int = 0
    written: int = 0
    taken_bytes: int = 0
    dropped_bytes: int = 0
    replayed: int = 0
    lost: int = 0
    descriptors: int = 0
    descriptor_limit: int = 0
    engine: str = ""
    engine_reachable: bool = True
    engine_for_s: int | None = None


SUMS = (
    "connections", "streams", "published", "deliveries", "slow_turns", "pauses", "slow_clients", "written", "taken_bytes",
    "dropped_bytes", "replayed", "lost", "descriptors", "descriptor_limit",
)  # fmt: skip
"""The figures of the service that are the sums of those of its nodes."""

_decode = msgspec.msgpack.Decoder(Figures).decode


class Overview:
    """Reads the figures of all nodes, and answers the calls of the other nodes."""

    def __init__(self, node: Node, streams: Streams, sampler: Sampler, slow: SlowClients) -> None:
        self._node = node
        self._streams = streams
        self._sampler = sampler
        self._slow = slow
        self._started_s = node.clock.steady()
        self._reading = SharedReading(self._read, node.clock.steady)
        node.remote_calls.register(PROCEDURE, self._answer)

    @property
    def uptime_s(self) -> int:
        """Whole seconds since the start of this node."""
        return int(self._node.clock.steady() - self._started_s)

    async def read(self) -> dict[str, Any]:
        """Return the figures of the service, and those of each node, as pages share them.

        While the engine is out of reach the other nodes are not known: then they are those of this node, with the reason.
        """
        return await self._reading.get()

    async def figures(self) -> dict[str, Any]:
        """Return the figures of the service as they are now: a program may ask at once after what it did."""
        figures: dict[str, Any] = (await self._read())["figures"]
        return figures

    async def _read(self) -> dict[str, Any]:
        known, reached = await asyncio.gather(
            self._counts(), self._node.remote_calls.call_reachable(PROCEDURE)
        )
        nodes = [_row(each) for each in reached.results]
        return {
            "figures": {
                **_sum(row["figures"] for row in nodes if row["figures"]),
                "users": known and known.users,
                "channels": known and known.channels,
            },
            "nodes": nodes,
            "failure": reached.failure,
        }

    async def _counts(self) -> Counts | None:
        """Return how many channels and users are known; None while the engine is out of reach."""
        try:
            return await self._node.directory.counts()
        except Unavailable:
            return None

    async def _answer(self, argument: bytes) -> bytes:
        return msgspec.msgpack.encode(self._figures())

    def _figures(self) -> Figures:
        hub, sampler = self._node.hub, self._sampler
        loop, taken, meter, engine = sampler.loop.figures(), sampler.taken, sampler.meter, sampler.engine
        engine.look()
        return Figures(
            version=__version__,
            uptime_s=self.uptime_s,
            connections=len(hub.connections),
            streams=self._streams.open,
            users=len(hub.users),
            channels=len(hub.channels),
            published=self._node.published,
            deliveries=hub.deliveries,
            slow_turns=loop["slow_turns"],
            longest_turn_ms=loop["longest_turn_ms"],
            pauses=loop["pauses"],
            slow_clients=len(self._slow.waiting()),
            written=hub.written.events,
            taken_bytes=taken.count,
            dropped_bytes=taken.dropped,
            replayed=meter.replayed,
            lost=meter.lost,
            descriptors=open_descriptors(),
            descriptor_limit=descriptor_limit(),
            engine=self._node.engine_name,
            engine_reachable=engine.is_reachable,
            engine_for_s=(
                int(self._node.clock.steady() - engine.since_s) if self._node.can_engine_fail else None
            ),
        )


def _row(each: NodeResult) -> dict[str, Any]:
    """Describe a node: its figures, or why there are none."""
    failure, figures = each.result.failure, None
    if not failure:
        try:
            figures = asdict(_decode(each.result.value))
        except msgspec.MsgspecError:
            failure = "The version of the node has other figures."
    return {
        "id": each.node.id if each.node else "",
        "label": each.label,
        "is_here": each.is_here,
        "failure": failure,
        "figures": figures,
    }


def _sum(each: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums, the longest turn, and the longest time that a node is up."""
    figures = list(each)
    return {
        **{name: sum(one[name] for one in figures) for name in SUMS},
        "longest_turn_ms": max((one["longest_turn_ms"] for one in figures), default=0.0),
        "uptime_s": max((one["uptime_s"] for one in figures), default=0),
    }
