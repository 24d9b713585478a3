"""Calls between nodes that are about a node, as those of the admin pages are.

`commands.py` has those about a connection. Code that answers a procedure registers it once, at the start, on every node. A
caller gets an answer of each living node, its own included, so that one node, several nodes and the workers of a
machine are the same to it. Nothing waits for a node longer than an engine waits for the answer to a command. A node
that does not answer, or whose version does not know the procedure, is in the result with the reason.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from heapq import nlargest
from operator import attrgetter
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from channelstream.core.node_status import NodeStatus
from channelstream.engines.cluster import Cluster, OwnerSilent
from channelstream.errors import ChannelstreamError, Unavailable

ANSWER_BYTES = 1 << 20
"""Longest answer to a call. A procedure answers less; a longer answer is replaced by a failure."""
NODES_ASKED = 64
"""Most nodes that are asked at once; those that were alive most recently."""
SILENT_DELAYS_S = (0.02, 0.05, *[0.1] * 15)
"""Pauses before a node is asked again that has no link: most upgrades take less."""

T = TypeVar("T")

Procedure = Callable[[bytes], Awaitable[bytes]]

logger = logging.getLogger(__name__)


class RemoteCall(Struct, frozen=True, tag=True):
    """Call a procedure of a node."""

    procedure: str
    argument: bytes


class RemoteResult(Struct, frozen=True):
    """The result of a call.

    Attributes:
        value: what the procedure has returned.
        failure: why there is no value, in a sentence; empty if there is one.
        is_reached: whether the node has received the call.
    """

    value: bytes = b""
    failure: str = ""
    is_reached: bool = True


class NodeResult(Struct, frozen=True):
    """What a node has answered.

    Attributes:
        node: the node as the engine lists it; None if the log belongs to this process alone.
        is_here: whether it is the node that has asked.
        result: its result.
    """

    node: NodeStatus | None
    is_here: bool
    result: RemoteResult

    @property
    def label(self) -> str:
        """The name of the node; empty where the log belongs to this process alone."""
        return self.node.label if self.node else ""

    def read(self, decode: Callable[[bytes], T]) -> T | None:
        """Return the value, decoded; None of a node that has not answered, or whose version answers otherwise."""
        try:
            return decode(self.result.value)
        except msgspec.MsgspecError:
            return None


class Reached(NamedTuple):
    """What the nodes have answered that could be asked.

    Attributes:
        results: that of this node first.
        failure: why only this node was asked, in a sentence; empty if all were.
    """

    results: list[NodeResult]
    failure: str


_encode = msgspec.msgpack.Encoder().encode
_result = msgspec.msgpack.Decoder(RemoteResult)
_number = msgspec.msgpack.Decoder(int).decode


class RemoteCalls:
    """The procedures of this node, and its calls of those of all nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._procedures: dict[str, Procedure] = {}

    @property
    def own_id(self) -> str:
        """The id of this node, as in `NodeResult.node`; empty if there can be no other."""
        return self._cluster.node_id

    def register(self, name: str, procedure: Procedure) -> None:
        """Answer calls of this name with what the procedure returns."""
        self._procedures[name] = procedure

    async def execute(self, call: RemoteCall) -> RemoteResult:
        """Call a procedure of this node. A failure is a part of the result, and never an error."""
        procedure = self._procedures.get(call.procedure)
        if procedure is None:
            return RemoteResult(failure="The version of the node does not know this.")
        try:
            value = await procedure(call.argument)
        except ChannelstreamError as error:
            return RemoteResult(failure=error.message)
        except Exception:
            logger.exception("the procedure %s has failed", call.procedure)
            return RemoteResult(failure="The node has failed; its log says why.")
        if len(value) > ANSWER_BYTES:
            return RemoteResult(failure="The answer of the node is too long.")
        return RemoteResult(value)

    async def call_all(self, procedure: str, argument: bytes = b"") -> list[NodeResult]:
        """Call a procedure of every living node at once; the result of this node is the first, the others follow by name.

        Raises:
            Unavailable: the engine is out of reach, so that the nodes are not known.
        """
        call = RemoteCall(procedure, argument)
        nodes = [node for node in await self._cluster.nodes() if node.is_alive]
        own_id = self._cluster.node_id
        others = nlargest(
            NODES_ASKED, (node for node in nodes if node.id != own_id), key=attrgetter("heartbeat_s")
        )
        others.sort(key=attrgetter("label", "id"))
        own = next((node for node in nodes if node.id == own_id), None)
        results = await asyncio.gather(
            self.execute(call), *(self._call_node(node.id, call) for node in others)
        )
        return [
            NodeResult(node, number == 0, result)
            for number, (node, result) in enumerate(zip((own, *others), results, strict=True))
        ]

    async def count_all(
        self, procedure: str, argument: bytes, failing: str, *, reaches_all: bool = False
    ) -> int:
        """Call as `call_all` does a procedure that returns a number; return the sum.

        Args:
            failing: what it means that a node fails, in a sentence.
            reaches_all: whether it is a failure that a node is out of reach which may live: it is asked several times.

        Raises:
            Unavailable: a node has not answered; the call may have taken effect.
        """
        results = await self.call_all(procedure, argument)
        if reaches_all:
            await self._ask_again(results, RemoteCall(procedure, argument))
        found = [each.result for each in results if each.result.is_reached or reaches_all]
        if failed := next((each.failure for each in found if each.failure), ""):
            raise Unavailable(f"{failing} {failed}")
        return sum(_number(each.value) for each in found)

    async def _ask_again(self, results: list[NodeResult], call: RemoteCall) -> None:
        """Ask the nodes again that were out of reach, as one is while it is upgraded."""
        for delay_s in SILENT_DELAYS_S:
            silent = [each for each in results if not each.result.is_reached]
            if not silent:
                return
            await asyncio.sleep(delay_s)
            for each in silent:
                assert each.node is not None  # noqa: S101 - this process reaches itself
                answered = await self._call_node(each.node.id, call)
                results[results.index(each)] = NodeResult(each.node, each.is_here, answered)

    async def call_owner(self, conn_id: str, procedure: str, argument: bytes) -> RemoteResult | None:
        """Call a procedure of the node that owns a connection; None if no living node does.

        It is asked several times if it is out of reach: it may be upgraded.

        Raises:
            Unavailable: the engine is out of reach.
        """
        call = _encode(RemoteCall(procedure, argument))
        delays_s = iter(SILENT_DELAYS_S)
        while True:
            try:
                return _read(await self._cluster.ask(conn_id, call))
            except OwnerSilent:
                if (delay_s := next(delays_s, None)) is None:
                    return None
            await asyncio.sleep(delay_s)

    async def call_reachable(self, procedure: str, argument: bytes = b"") -> Reached:
        """Call as `call_all` does, but only this node while the engine is out of reach."""
        try:
            return Reached(await self.call_all(procedure, argument), "")
        except Unavailable as error:
            own = await self.execute(RemoteCall(procedure, argument))
            return Reached([NodeResult(None, True, own)], error.message)

    async def _call_node(self, node_id: str, call: RemoteCall) -> RemoteResult:
        try:
            result = _read(await self._cluster.ask_node(node_id, _encode(call)))
        except Unavailable:
            return RemoteResult(failure="The node does not answer.")
        return result or RemoteResult(failure="The node is out of reach.", is_reached=False)


def encode_result(result: RemoteResult) -> bytes:
    return _encode(result)


def _read(data: bytes | None) -> RemoteResult | None:
    """Return a result; a node of another version may answer what cannot be read."""
    if data is None:
        return None
    try:
        return _result.decode(data)
    except msgspec.MsgspecError:
        return RemoteResult(failure="The answer of the node cannot be read.")
