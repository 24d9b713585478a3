"""The framings: how the payload of one write becomes bytes of a stream. Every protocol uses them."""

from collections.abc import Callable
from enum import IntEnum

from channelstream.wire.deflate import compress
from channelstream.wire.frame_head import Opcode
from channelstream.wire.frames import frame, text_frame

DEFLATE_FROM_BYTES = 256
"""Shortest payload that is compressed: below, deflate saves a few bytes and costs as much as the delivery."""


class Framing(IntEnum):
    """What encloses a payload: a WebSocket text frame, an event of an event stream, or the body of a long poll."""

    WEBSOCKET = 0
    SSE = 1
    POLL = 2
    DEFLATE = 3
    """A WebSocket text frame for a client that has negotiated permessage-deflate."""

    @property
    def is_websocket(self) -> bool:
        return self in (Framing.WEBSOCKET, Framing.DEFLATE)

    @property
    def transport(self) -> str:
        """The name of its transport, for people."""
        return _TRANSPORTS[self]

    def enclose(self, payload: bytes, position: str | None = None) -> bytes:
        """Return the bytes of a payload.

        Args:
            payload: UTF-8; without line breaks for an event stream.
            position: after the last entry of the payload, for a framing that has a field for it.
        """
        return _ENCLOSE[self](payload, position)


_TRANSPORTS = {
    Framing.WEBSOCKET: "WebSocket",
    Framing.DEFLATE: "WebSocket, compressed",
    Framing.SSE: "SSE",
    Framing.POLL: "long poll",
}


def _websocket_frame(payload: bytes, _position: str | None) -> bytes:
    return text_frame(payload)


def _deflated_frame(payload: bytes, _position: str | None) -> bytes:
    """Return a compressed frame, or a plain one if it is short; a bit in the frame tells them apart (RFC 7692, 6)."""
    if len(payload) < DEFLATE_FROM_BYTES:
        return text_frame(payload)
    return frame(Opcode.TEXT, compress(payload), rsv1=True)


def _sse_event(payload: bytes, position: str | None) -> bytes:
    """Return one event of an event stream; without a position it does not change the client's Last-Event-ID.

    A payload without line breaks fits into one `data:` line (HTML Living Standard, 9.2.6).
    """
    head = b"" if position is None else b"id: %b\n" % position.encode()
    return b"%bdata: %b\n\n" % (head, payload)


def _poll_body(payload: bytes, _position: str | None) -> bytes:
    return payload


_ENCLOSE: dict[Framing, Callable[[bytes, str | None], bytes]] = {
    Framing.WEBSOCKET: _websocket_frame,
    Framing.DEFLATE: _deflated_frame,
    Framing.SSE: _sse_event,
    Framing.POLL: _poll_body,
}
