"""What a page shows of all nodes: this node answers the calls of the others, and pages share a reading of them."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from channelstream.admin.shared_reading import SharedReading
from channelstream.service import Node

Answer = TypeVar("Answer")
Shown = TypeVar("Shown")


class AllNodes(Generic[Answer, Shown]):
    """One reading of all nodes; only of this node while the engine is out of reach.

    Args:
        procedure: the name of the call.
        kind: what a node answers; an answer of another form, as of another version, is left out.
        own: returns the answer of this node, of that form.
        combine: makes one of the answers, each with the label of its node; that of this node comes first.
    """

    def __init__(
        self,
        node: Node,
        procedure: str,
        kind: type[Answer],
        own: Callable[[], Awaitable[object]],
        combine: Callable[[list[tuple[str, Answer]]], Shown],
    ) -> None:
        """Answer the other nodes from now on."""
        self._calls = node.remote_calls
        self._procedure = procedure
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._own = own
        self._combine = combine
        self._reading = SharedReading(self._read, node.clock.steady)
        self._calls.register(procedure, self._answer)

    async def read(self) -> Shown:
        """Return what was read less than a second ago, or read it."""
        return await self._reading.get()

    async def _read(self) -> Shown:
        results = (await self._calls.call_reachable(self._procedure)).results
        answers = ((each.label, each.read(self._decode)) for each in results)
        return self._combine([(label, answer) for label, answer in answers if answer is not None])

    async def _answer(self, argument: bytes) -> bytes:
        return msgspec.msgpack.encode(await self._own())
