"""Parsers of data from a server: WebSocket frames, event stream blocks, HTTP answers.

Each parser receives chunks and returns the complete pieces. `rest` has the incomplete bytes. While it is empty, the
next chunk begins a piece, so equal chunks have equal results.
"""

import re
import zlib
from typing import NamedTuple, Protocol

from channelstream.bench.load import BenchFailed

MAX_PIECE_BYTES = 64 << 20
"""Longest accepted frame, block or answer. A longer one ends the run."""
_RSV1 = 0x40
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})")
_NO_HTTP = "the server's answer is not HTTP"
_DEFLATE_END = b"\x00\x00\xff\xff"
_LENGTH_BYTES = {126: 2, 127: 8}

DATA_OPCODES = frozenset((0, 1, 2))
CLOSE, PING = 8, 9


class Piece(NamedTuple):
    """A frame, block or answer. `opcode` is that of a WebSocket frame, and 1 (text) for the others."""

    opcode: int
    payload: bytes


class Reader(Protocol):
    """Parses chunks into pieces."""

    rest: bytes

    def feed(self, data: bytes) -> list[Piece]: ...


class FrameReader:
    """Parses frames of a server, which are not masked (RFC 6455 section 5.1). Fragments of a message are separate pieces."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[Piece]:
        buffer = self.rest + data if self.rest else data
        pieces, at = [], 0
        while (found := _frame_at(buffer, at)) is not None:
            piece, at = found
            pieces.append(piece)
        self.rest = _bounded(buffer[at:])
        return pieces


def _frame_at(buffer: bytes, at: int) -> tuple[Piece, int] | None:
    """Return the frame at an index and the index after it; None if the frame is incomplete."""
    if len(buffer) - at < 2:
        return None
    first, length = buffer[at], buffer[at + 1]
    begin = at + 2 + _LENGTH_BYTES.get(length, 0)
    if length >= 126:
        if len(buffer) < begin:
            return None
        length = int.from_bytes(buffer[at + 2 : begin])
    if len(buffer) < begin + length:
        return None
    payload = buffer[begin : begin + length]
    return Piece(first & 0x0F, _inflated(payload) if first & _RSV1 else payload), begin + length


def _inflated(payload: bytes) -> bytes:
    """Decompress a message that was compressed without context (RFC 7692 section 7.2.2)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(payload + _DEFLATE_END, MAX_PIECE_BYTES)
    except zlib.error as error:
        raise BenchFailed(f"a compressed message cannot be inflated: {error}") from error


class BlockReader:
    """Parses blocks of an event stream. An empty line ends each (WHATWG HTML section 9.2.6)."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[Piece]:
        *blocks, rest = (self.rest + data).split(b"\n\n")
        self.rest = _bounded(rest)
        return [Piece(1, block) for block in blocks]


class AnswerReader:
    """Parses bodies of HTTP answers, with a length or in chunks (RFC 9112 section 6).

    Attributes:
        status: status of the latest answer.
    """

    def __init__(self) -> None:
        self.rest = b""
        self.status = 0

    def feed(self, data: bytes) -> list[Piece]:
        self.rest += data
        pieces = []
        while (body := self._answer()) is not None:
            pieces.append(Piece(1, body))
        return pieces

    def _answer(self) -> bytes | None:
        head, end, after = self.rest.partition(b"\r\n\r\n")
        if not end:
            _bounded(self.rest)
            return None
        try:
            taken = _body(head.lower(), after)
        except ValueError as error:  # A length that is no number.
            raise BenchFailed(_NO_HTTP) from error
        if taken is None:
            _bounded(self.rest)
            return None
        self.status = status_of(head)
        body, self.rest = taken
        return body


def status_of(head: bytes) -> int:
    """Return the status in the head of an answer."""
    found = _STATUS_LINE.match(head)
    if found is None:
        raise BenchFailed(_NO_HTTP)
    return int(found[1])


def _body(head: bytes, data: bytes) -> tuple[bytes, bytes] | None:
    """Return the body and the bytes after it; None if the body is incomplete."""
    if b"transfer-encoding: chunked" in head:
        return _chunked(data)
    length = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    return (data[:length], data[length:]) if len(data) >= length else None


def _chunked(data: bytes) -> tuple[bytes, bytes] | None:
    body, rest = b"", data
    while True:
        size_line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        size = int(size_line.partition(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        body, rest = body + rest[:size], rest[size + 2 :]
        if not size:
            return body, rest


def _bounded(rest: bytes) -> bytes:
    if len(rest) > MAX_PIECE_BYTES:
        raise BenchFailed(f"the server sent a frame or answer of more than {MAX_PIECE_BYTES >> 20} MiB")
    return rest
