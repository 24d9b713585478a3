"""How many of the bytes written to streams their sockets have taken, and how many were lost with their streams."""

from channelstream.core.connection import Connection, Stream
from channelstream.service import Node
from channelstream.slices import STEP, Slices


class TakenBytes:
    """The bytes of events that have left this process.

    What the streams still hold is read now and then, by `look`, and not where events are written. A stream that ends while
    it holds bytes drops them: so many as it had at the last look.

    Attributes:
        dropped: bytes that were written to streams which ended before their sockets took them.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._held: dict[Connection, tuple[Stream, int]] = {}
        """The streams that held bytes at the last look, by their connections."""
        self.dropped = 0

    @property
    def count(self) -> int:
        """Bytes that the sockets have taken since the start, as far as is known from the last look."""
        return max(
            0, self._node.hub.written.size - self.dropped - sum(size for _, size in self._held.values())
        )

    async def look(self) -> None:
        """Read what the streams hold, in short turns."""
        held: dict[Connection, tuple[Stream, int]] = {}
        slices = Slices(self._node.clock.steady)
        for number, connection in enumerate(list(self._node.hub.connections.values())):
            stream = connection.stream
            if stream is not None and (size := stream.buffered_bytes()):
                held[connection] = stream, size
            if number % STEP == 0:
                await slices.due()
        self.dropped += sum(size for each, (stream, size) in self._held.items() if each.stream is not stream)
        self._held = held
