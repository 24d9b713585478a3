"""The readers of what servers send, whole and cut anywhere."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.bench.inbound import AnswerReader, BlockReader, FrameReader, Piece, Reader
from channelstream.bench.load import BenchFailed
from channelstream.wire.deflate import compress
from channelstream.wire.frame_head import Opcode
from channelstream.wire.frames import PING, close_frame, frame, text_frame

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
STREAMS = [
    (FrameReader, text_frame(b"a") + text_frame(b"b" * 300) + text_frame(b"c" * 70_000), [b"a", b"b" * 300, b"c" * 70_000]),
    (FrameReader, frame(Opcode.TEXT, compress(b"x" * 999), rsv1=True), [b"x" * 999]),
    (BlockReader, b"id: 1\ndata: [1]\n\ndata: [2]\n\n", [b"id: 1\ndata: [1]", b"data: [2]"]),
    (AnswerReader, CHUNKED + SIZED, [b"abcde", b"[]"]),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "data", "payloads"), STREAMS)
@given(cuts=st.lists(st.integers(0, 500), max_size=6))
def test_pieces_do_not_depend_on_the_chunks(
    reader: Callable[[], Reader], data: bytes, payloads: list[bytes], cuts: list[int]
) -> None:
    """The same pieces come out wherever the stream is cut, and nothing is left over."""
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    made = reader()
    pieces = [piece for begin, end in pairwise(ends) for piece in made.feed(data[begin:end])]
    assert [piece.payload for piece in pieces] == payloads
    assert made.rest == b""


def test_control_frames_are_distinguished_from_texts() -> None:
    """Pings and close frames are distinguished from texts."""
    assert FrameReader().feed(PING + close_frame(4008, "slow")) == [
        Piece(9, b""),
        Piece(8, (4008).to_bytes(2) + b"slow"),
    ]


def test_the_status_is_that_of_the_latest_answer() -> None:
    """The status is that of the latest answer."""
    reader = AnswerReader()
    reader.feed(SIZED + b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert reader.status == 401


def test_bytes_that_are_not_http_end_the_run() -> None:
    """Bytes that are not HTTP end the run with a sentence."""
    with pytest.raises(BenchFailed, match="not HTTP"):
        AnswerReader().feed(b"nonsense\r\n\r\n")


def test_a_frame_that_is_not_compressed_as_it_says_ends_the_run() -> None:
    """So does a frame that says it is compressed and is not."""
    with pytest.raises(BenchFailed, match="cannot be inflated"):
        FrameReader().feed(frame(Opcode.TEXT, b"not deflate", rsv1=True))
