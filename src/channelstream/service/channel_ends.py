"""Ends the connections in a channel, at all nodes: those of a user that is known by a channel of its own."""

from typing import Final

import msgspec
from msgspec import Struct

from channelstream.close_codes import CloseCode
from channelstream.core.hub import Hub
from channelstream.service.remote_calls import RemoteCalls
from channelstream.service.revocations import EndSoon
from channelstream.slices import in_turns

PROCEDURE: Final = "end connections in a channel"
SLICE = 1_000
"""Connections that end in one loop turn."""


class EndAll(Struct, frozen=True, array_like=True):
    """Which connections end, and with what their streams are closed."""

    channel: str
    code: int
    reason: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(EndAll).decode


class ChannelEnds:
    """Ends connections by their channel."""

    def __init__(self, calls: RemoteCalls, hub: Hub, end_soon: EndSoon) -> None:
        """Create the part of a node.

        Args:
            calls: its calls of all nodes.
            hub: its connections.
            end_soon: ends one of these.
        """
        self._calls = calls
        self._hub = hub
        self._end_soon = end_soon
        calls.register(PROCEDURE, self._answer)

    async def end_all(self, channel: str, code: CloseCode, reason: str) -> int:
        """End the connections in a channel at all nodes; return how many these were.

        Raises:
            Unavailable: a node has not answered; the call may have taken effect.
        """
        asked = _encode(EndAll(channel, code, reason))
        # A node that is out of reach for a moment still has its streams, and nobody tells it later.
        return await self._calls.count_all(
            PROCEDURE, asked, "A node has not ended its connections; try again.", reaches_all=True
        )

    async def _answer(self, argument: bytes) -> bytes:
        """End those of this node."""
        asked, ended = _decode(argument), 0
        code = CloseCode(asked.code)
        async for part in in_turns(list(self._hub.channels.get(asked.channel, ())), SLICE):
            for connection in part:
                self._end_soon(connection, code, asked.reason)
                ended += 1
        return _encode(ended)
