"""The body of a request that comes in chunks: where it ends, and its bytes without their framing (RFC 9112, 7.1)."""

import re
from typing import Final

from channelstream.core.http_head import check_trailer
from channelstream.errors import BadRequest, HeadTooLong

CHUNK_STEPS: Final = 300
"""Lines and parts of chunks in one step, 2 ms at most (measured): a chunk of one byte costs as much as a long one."""
CHUNK_LINE_BYTES: Final = 256
"""Longest size line of a chunk, with its extensions, which are ignored."""
# No group is possessive: where one fails half-way, CPython before 3.11.5 goes on behind that half (gh-106052).
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION: Final = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*" % _EXTENSION)


class ChunkedBody:
    """A body in chunks; its trailers are checked and dropped.

    Attributes:
        is_complete: the body was read to its end.
        has_stopped: the last read has reached its bound of work; the same data may have more of the body.
    """

    __slots__ = ("_is_last", "_left", "_trailer_left", "has_stopped", "is_complete")

    def __init__(self, trailer_bytes: int) -> None:
        """Start before the first chunk.

        Args:
            trailer_bytes: longest trailers, all together.
        """
        self._left: int | None = None
        """Bytes of the chunk and of the line end after it; None: a size comes next."""
        self._is_last = False
        self._trailer_left = trailer_bytes
        self.is_complete = self.has_stopped = False

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Return the bytes of the body in `data` from index `at` on, and the index after the last byte that was read.

        Raises:
            BadRequest, HeadTooLong: the framing breaks the protocol or a bound.
        """
        parts: list[bytes] = []
        before, steps = -1, 0
        while before != at and not self.is_complete and steps < CHUNK_STEPS:
            before = at
            steps += 1
            if self._is_last:
                at = self._read_trailer(data, at)
            elif self._left is None:
                at = self._read_size(data, at)
            else:
                at = self._read_chunk(data, at, parts)
        self.has_stopped = before != at and not self.is_complete
        return b"".join(parts), at

    def _read_size(self, data: bytes, at: int) -> int:
        end = _line_end(data, at, CHUNK_LINE_BYTES)
        if end < 0:
            if len(data) - at > CHUNK_LINE_BYTES:
                raise BadRequest("The size line of a chunk is too long.")
            return at
        line = _CHUNK_LINE.fullmatch(data, at, end)
        if line is None:
            raise BadRequest("A chunk must begin with its size in hexadecimal digits.")
        size = int(line[1], 16)
        self._is_last = not size
        self._left = size + 2
        return end + 2

    def _read_chunk(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Read the bytes of a chunk, and the line end after them once it is complete."""
        left: int = self._left  # type: ignore[assignment]
        part = data[at : at + left - 2]
        if part:
            parts.append(part)
            self._left = left - len(part)
            at += len(part)
        if len(data) - at < 2:  # So it is while bytes of the chunk itself are missing.
            return at
        if data[at : at + 2] != b"\r\n":
            raise BadRequest("A chunk does not end where its size says.")
        self._left = None
        return at + 2

    def _read_trailer(self, data: bytes, at: int) -> int:
        end = _line_end(data, at, self._trailer_left)
        if end < 0:
            if len(data) - at > self._trailer_left:
                raise HeadTooLong("The trailers are too long; see the option max_head_bytes.")
            return at
        self._trailer_left -= end + 2 - at
        if end == at:
            self.is_complete = True
        else:
            check_trailer(b"\r\n%b\r\n\r\n" % data[at:end])
        return end + 2


def _line_end(data: bytes, at: int, limit: int) -> int:
    """Return the index of the CR LF that ends the line; -1 if there is none within `limit`."""
    return data.find(b"\r\n", at, at + limit + 2)
