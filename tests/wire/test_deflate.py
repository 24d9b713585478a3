"""permessage-deflate: negotiation, and shared bytes that every client can read."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.close_codes import CloseCode
from channelstream.wire.deflate import compress, inflate, negotiate
from channelstream.wire.frame_head import FrameError
from channelstream.wire.handshake import Offer

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\x00\x00\xff\xff"


def offer(**parameters: str | None) -> Offer:
    return Offer("permessage-deflate", tuple(parameters.items()))


def inflated(payload: bytes, max_bytes: int) -> bytes:
    return b"".join(inflate(payload, max_bytes))


def refusal(payload: bytes, max_bytes: int = 100) -> CloseCode:
    with pytest.raises(FrameError) as caught:
        inflated(payload, max_bytes)
    return caught.value.code


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"client_max_window_bits": None},
        {"client_max_window_bits": "8"},
        {"server_no_context_takeover": None, "client_no_context_takeover": None},
    ],
)
def test_an_offer_that_fits_is_accepted_without_contexts(parameters):
    """Both contexts are given up in the answer whether asked for or not (RFC 7692 section 7.1.1)."""
    assert negotiate([offer(**parameters)]) == ANSWER


def test_full_window_is_confirmed():
    """A window asked for is repeated in the answer (RFC 7692 section 7.1.2.1)."""
    assert negotiate([offer(server_max_window_bits="15")]) == f"{ANSWER}; server_max_window_bits=15"


@pytest.mark.parametrize(
    "parameters",
    [
        {"server_max_window_bits": "10"},
        {"server_max_window_bits": "16"},
        {"server_max_window_bits": "015"},
        {"server_max_window_bits": None},
        {"client_max_window_bits": "7"},
        {"client_max_window_bits": "16"},
        {"client_max_window_bits": "08"},
        {"server_no_context_takeover": "1"},
        {"client_no_context_takeover": "1"},
        {"unknown": None},
    ],
)
def test_an_offer_that_does_not_fit_is_declined(parameters):
    """An offer with a smaller server window, an unknown name or a wrong value is declined (section 7)."""
    assert negotiate([offer(**parameters)]) is None


def test_repeated_parameter_is_declined():
    """A parameter that occurs twice makes its offer invalid (section 7)."""
    assert negotiate([Offer("permessage-deflate", (("client_max_window_bits", None),) * 2)]) is None


def test_next_offer_is_tried():
    """The first offer that can be met is taken; other extensions are passed over (section 5.1)."""
    assert negotiate([Offer("x-other", ()), offer(server_max_window_bits="9"), offer()]) == ANSWER
    assert negotiate([]) is None


@given(st.binary(max_size=2000))
def test_a_compressed_message_is_read_back(payload):
    """A compressed message is read back, by us and by a plain zlib stream."""
    packed = compress(payload)
    assert inflated(packed, len(payload)) == payload
    assert zlib.decompressobj(-15).decompress(packed + TAIL) == payload


def test_the_empty_last_block_is_not_sent():
    """The empty last block is not sent (RFC 7692 section 7.2.1); an empty message is one byte (7.2.3.6)."""
    assert not compress(b"hello" * 100).endswith(TAIL)
    assert compress(b"") == b"\x00"


def test_messages_share_no_context():
    """The bytes of a message do not depend on earlier messages."""
    assert compress(b"hello" * 100) == compress(b"hello" * 100)


def test_a_message_that_inflates_beyond_the_cap_is_refused():
    """A message that inflates beyond the cap is 1009, one that just reaches it passes."""
    bomb = compress(bytes(1 << 20))
    assert refusal(bomb, (1 << 20) - 1) == CloseCode.TOO_BIG
    assert len(inflated(bomb, 1 << 20)) == 1 << 20


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("ffff", id="reserved block type"),
        pytest.param("", id="no block at all"),
        pytest.param("f248cd", id="ends inside a block"),
        pytest.param("f248cdc9c90700f248", id="second block incomplete"),
        pytest.param("f348cdc9c9070000ff", id="data after the last block"),
    ],
)
def test_an_incomplete_compressed_message_is_refused(payload):
    """An incomplete compressed message is 1007 (RFC 6455 section 7.4.1)."""
    assert refusal(bytes.fromhex(payload)) == CloseCode.INVALID_TEXT


@given(st.binary(max_size=300))
def test_random_bytes_are_inflated_within_the_cap_or_refused(payload):
    """Random bytes are inflated within the cap or refused."""
    try:
        assert len(inflated(payload, 50)) <= 50
    except FrameError as fault:
        assert fault.code in (CloseCode.TOO_BIG, CloseCode.INVALID_TEXT)
