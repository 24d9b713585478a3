"""The head of one client frame: each rule of RFC 6455 about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.close_codes import CloseCode
from channelstream.wire.frame_head import FrameError, Opcode, read_head

MASK = b"\x01\x02\x03\x04"


def refusal(head: bytes) -> str:
    """Return why this head is refused, which must be a protocol error."""
    with pytest.raises(FrameError) as caught:
        read_head(head, 0)
    assert caught.value.code == CloseCode.PROTOCOL_ERROR
    return caught.value.reason


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"\x81\x80", 0),
        (b"\x81\xfd", 125),
        (b"\x81\xfe\x00\x7e", 126),
        (b"\x81\xfe\xff\xff", 65535),
        (b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00", 65536),
        (b"\x81\xff\x7f" + b"\xff" * 7, (1 << 63) - 1),
    ],
)
def test_the_three_forms_of_the_length_are_read(head, length):
    """The three forms of the length are read, at any index, as soon as the mask is complete (section 5.2)."""
    read = read_head(b"??" + head + MASK, 2)
    assert read is not None
    assert (read.opcode, read.fin, read.rsv1, read.mask) == (Opcode.TEXT, True, False, MASK)
    assert (read.left, read.head_bytes) == (length, len(head) + 4)
    assert all(read_head((head + MASK)[:size], 0) is None for size in range(len(head) + 4))


def test_fin_and_rsv1_are_distinguished():
    """FIN and RSV1 are distinguished."""
    fragment = read_head(b"\x42\x80" + MASK, 0)
    assert fragment is not None
    assert (fragment.opcode, fragment.fin, fragment.rsv1) == (Opcode.BINARY, False, True)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_an_opcode_without_a_meaning_fails_the_connection(opcode):
    """An opcode without a meaning fails the connection (section 5.2)."""
    assert refusal(bytes((0x80 | opcode, 0x80))) == "reserved opcode"


@pytest.mark.parametrize("bit", [0x10, 0x20])
def test_a_reserved_bit_fails_the_connection(bit):
    """RSV2 and RSV3 belong to no extension we speak (section 5.2)."""
    assert refusal(bytes((0x81 | bit, 0x80))) == "reserved bit set"


def test_a_client_has_to_mask_its_frames():
    """A client has to mask its frames (section 5.1)."""
    assert refusal(b"\x81\x00") == "frame is not masked"


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_control_frames_are_whole_and_short(opcode):
    """Control frames are neither fragmented nor longer than 125 bytes (section 5.5)."""
    assert refusal(bytes((opcode, 0x80))) == "fragmented control frame"
    assert refusal(bytes((0x80 | opcode, 0xFE))) == "control frame too long"
    assert read_head(bytes((0x80 | opcode, 0xFD)) + MASK, 0) is not None


def test_top_bit_of_length_is_zero():
    """The top bit of a 64-bit length is zero (section 5.2)."""
    assert refusal(b"\x82\xff\x80" + bytes(7) + MASK) == "length has its top bit set"


@pytest.mark.parametrize("length", [b"\xfe\x00\x7d", b"\xff" + bytes(6) + b"\xff\xff"])
def test_length_is_minimal(length):
    """A length takes the fewest bytes it can (section 5.2)."""
    assert refusal(b"\x82" + length + MASK) == "length is not minimal"


@given(st.binary(min_size=1, max_size=125), st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 40)))
def test_a_payload_is_unmasked_in_any_pieces(payload, mask, sizes):
    """A payload unmasked in any chunks is the original (section 5.3)."""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    frame = read_head(bytes((0x82, 0x80 | len(payload))) + mask, 0)
    assert frame is not None
    plain, at = b"", 0
    for size in [*sizes, len(payload)]:
        piece = frame.take(masked[: at + size], at)
        plain, at = plain + piece, at + len(piece)
    assert (plain, frame.left) == (payload, 0)
