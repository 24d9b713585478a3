"""The framings: what encloses a payload on each transport."""

import pytest

from channelstream.wire.deflate import inflate
from channelstream.wire.frames import text_frame
from channelstream.wire.framing import DEFLATE_FROM_BYTES, Framing


@pytest.mark.parametrize("payload", [b"", b"{}", "\u00e4".encode() * 100])
def test_a_payload_of_a_transport_is_enclosed_once(payload: bytes) -> None:
    """A text frame, one event of an event stream with its id, and the body as it is."""
    assert Framing.WEBSOCKET.enclose(payload, "e-1") == text_frame(payload)
    assert Framing.SSE.enclose(payload, "e-1") == b"id: e-1\ndata: %b\n\n" % payload
    assert Framing.SSE.enclose(payload) == b"data: %b\n\n" % payload
    assert Framing.POLL.enclose(payload, "e-1") == payload


@pytest.mark.parametrize(
    ("size", "is_compressed"), [(DEFLATE_FROM_BYTES - 1, False), (DEFLATE_FROM_BYTES, True)]
)
def test_a_long_payload_is_compressed(size: int, is_compressed: bool) -> None:
    """The bit RSV1 says whether; a client inflates it to the same text."""
    payload = b"x" * size
    data = Framing.DEFLATE.enclose(payload)
    assert bool(data[0] & 0x40) is is_compressed
    if is_compressed:
        assert b"".join(inflate(bytearray(data[2:]), size)) == payload
    else:
        assert data == text_frame(payload)


def test_two_framings_are_of_websockets() -> None:
    """These have close codes."""
    assert {framing for framing in Framing if framing.is_websocket} == {Framing.WEBSOCKET, Framing.DEFLATE}
