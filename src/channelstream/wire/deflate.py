"""permessage-deflate (RFC 7692) without contexts: a message is compressed once and shared by all recipients.

Shared bytes must not refer to an earlier message, nor to a window that a recipient does not have. So the answer
always has both no_context_takeover parameters, and a client that wants the server to use a window smaller than 32 KiB
gets no compression.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from channelstream.close_codes import CloseCode
from channelstream.wire.frame_head import PIECE_BYTES, FrameError
from channelstream.wire.handshake import Offer

_WINDOW_BITS: Final = 15
_TAIL: Final = b"\x00\x00\xff\xff"
"""The empty block that ends every compressed message and is not sent (RFC 7692 section 7.2.1)."""
_END: Final = b"\x01\x00\x00\xff\xff"
"""An empty last block: reading it proves that what came before was complete."""
_AFTER_LAST_BLOCK: Final = (b"", b"\x00" + _TAIL + _END)
"""Valid remainders: nothing, or the end of a message with a last block (RFC 7692 section 7.2.3.4)."""
_STEP_BYTES: Final = 2048
"""Compressed bytes read in one step: blocks that hold nothing but a table of codes take up to 0.6 µs a byte (measured)."""

_ALLOWED: Final[dict[str, frozenset[str | None]]] = {
    "server_no_context_takeover": frozenset((None,)),
    "client_no_context_takeover": frozenset((None,)),
    "server_max_window_bits": frozenset((str(_WINDOW_BITS),)),
    "client_max_window_bits": frozenset((None, *map(str, range(8, 16)))),
}
"""The parameters of an offer and the values this server can meet; None is no value (RFC 7692 section 7.1)."""


def negotiate(offers: Sequence[Offer]) -> str | None:
    """Return the extension header that accepts the first offer the server can meet, None if there is none."""
    for offer in offers:
        if offer.name == "permessage-deflate" and _can_meet(offer):
            return _answer(offer)
    return None


def _can_meet(offer: Offer) -> bool:
    """Whether every parameter is known, has a value we can meet and occurs once (RFC 7692 section 7)."""
    names = [name for name, _ in offer.parameters]
    return len(names) == len(set(names)) and all(
        value in _ALLOWED.get(name, ()) for name, value in offer.parameters
    )


def _answer(offer: Offer) -> str:
    # Both may be in the answer without an offer (RFC 7692 sections 7.1.1.1 and 7.1.1.2); a requested window must be
    # repeated (7.1.2.1). client_max_window_bits is a hint that is not used: inflating works with any window.
    answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    if any(name == "server_max_window_bits" for name, _ in offer.parameters):
        answer += f"; server_max_window_bits={_WINDOW_BITS}"
    return answer


def compress(payload: bytes) -> bytes:
    """Return the payload of a frame with RSV1 set (RFC 7692 section 7.2.1)."""
    deflater = zlib.compressobj(wbits=-_WINDOW_BITS)
    packed = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return packed.removesuffix(_TAIL)


def inflate(payload: bytes | bytearray, max_bytes: int) -> Iterator[bytes]:
    """Yield, in pieces, the message that a client compressed (RFC 7692 section 7.2.2).

    Each piece is a bounded amount of work, whatever the client sent, so the caller can do other work in between.

    Raises:
        FrameError: 1009 for a message longer than `max_bytes`; 1007 for data that is not deflate: RFC 7692 names no
            code, and 1007 is for data inconsistent with the type of the message (RFC 6455 section 7.4.1).
    """
    inflater = zlib.decompressobj(-_WINDOW_BITS)
    source = payload + _TAIL + _END
    at = 0
    while not inflater.eof and at < len(source):
        step = source[at : at + _STEP_BYTES]
        try:
            piece = inflater.decompress(step, PIECE_BYTES)
        except zlib.error:
            raise _not_deflate() from None
        at += len(step) - len(inflater.unconsumed_tail)
        max_bytes -= len(piece)
        if max_bytes < 0:
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        yield piece
    if not inflater.eof or inflater.unused_data + source[at:] not in _AFTER_LAST_BLOCK:
        raise _not_deflate()


def _not_deflate() -> FrameError:
    return FrameError(CloseCode.INVALID_TEXT, "message cannot be inflated")
