"""Reads the WebSocket frames of one client (RFC 6455, server side).

Inbound traffic is rare, so the reader is small when idle: an idle connection pays for six references.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from channelstream.close_codes import CloseCode
from channelstream.wire.frame_head import Frame, FrameError, Opcode, protocol_error, read_head
from channelstream.wire.unfinished import Unfinished

_UTF8: Final = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Data:
    """A complete message, defragmented and inflated; a text is valid UTF-8."""

    opcode: Opcode
    payload: bytes | bytearray


@dataclass(frozen=True, slots=True)
class Ping:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame of the client; `code` is None if it has none."""

    code: int | None
    reason: str


Inbound = Data | Ping | Pong | Close

Inflate = Callable[[bytearray, int], Iterable[bytes]]
"""Turns a compressed payload into pieces of at most so many bytes together, or raises FrameError."""

WHOLE_PIECE_BYTES: Final = 256
"""A chunk that continues a frame and is shorter than this counts as a small piece.

A client may send as many of them as frames, so that frames cannot be sent byte by byte without end. TCP cuts a long
message into segments of at least 536 bytes (RFC 9293 section 3.7.1).
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what a client may make the server buffer.

    Attributes:
        frame_bytes: longest payload of one data frame.
        message_bytes: longest message, before and after inflation.
        frames: frames that it may send until `FrameReader.renew` is called; small pieces of frames are counted, too.
    """

    frame_bytes: int
    message_bytes: int
    frames: int


def _flood(reason: str) -> FrameError:
    return FrameError(CloseCode.POLICY_VIOLATION, reason)


def _is_close_code(code: int) -> bool:
    """Whether a client may send this code: RFC 6455 section 7.4, and IANA's 1012 to 1014."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _read_close(payload: bytes) -> Close:
    if not payload:
        return Close(None, "")
    code = int.from_bytes(payload[:2])  # One of a single byte is below all codes.
    if not _is_close_code(code):
        raise protocol_error("invalid close code")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_TEXT, "close reason is not UTF-8") from None


class _Message:
    """A data message while its frames arrive."""

    __slots__ = ("_decoder", "_inflate", "_opcode", "_payload")

    def __init__(self, opcode: Opcode, inflate: Inflate | None) -> None:
        """Start empty.

        Args:
            opcode: TEXT or BINARY.
            inflate: None for a message that is not compressed.
        """
        self._opcode = opcode
        self._inflate = inflate
        self._payload = bytearray()
        self._decoder = _UTF8() if opcode is Opcode.TEXT else None

    def __len__(self) -> int:
        return len(self._payload)

    def begun(self) -> tuple[int, bytes, bool]:
        """Return opcode, payload until now, and whether it is compressed."""
        return self._opcode, bytes(self._payload), self._inflate is not None

    def add(self, chunk: bytes, last: bool) -> None:
        """Append a piece; a text fails at the first byte that is not UTF-8 (RFC 6455 section 8.1)."""
        self._payload += chunk
        if self._inflate is None:
            self._check_text(chunk, last)

    def finish(self, limit_bytes: int) -> Iterator[Data | None]:
        """Yield None for each step of inflation, then the whole message, of at most `limit_bytes` when inflated."""
        if self._inflate is not None:
            packed, self._payload = self._payload, bytearray()
            for piece in self._inflate(packed, limit_bytes):
                self._payload += piece
                self._check_text(piece, last=False)
                yield None
            self._check_text(b"", last=True)
        yield Data(self._opcode, self._payload)

    def _check_text(self, chunk: bytes, last: bool) -> None:
        if self._decoder is None:
            return
        try:
            self._decoder.decode(chunk, last)
        except UnicodeDecodeError:
            raise FrameError(CloseCode.INVALID_TEXT, "text is not UTF-8") from None


class FrameReader:
    """Turns the bytes of one client into events; buffers at most one message and one frame head."""

    __slots__ = (
        "_ended",
        "_frame",
        "_frames_left",
        "_inflate",
        "_limits",
        "_message",
        "_pending",
        "_pieces_left",
    )

    def __init__(self, limits: Limits, inflate: Inflate | None = None) -> None:
        """Start at the first byte after the handshake.

        Args:
            limits: caps on frames and messages; share one instance between connections.
            inflate: set if permessage-deflate was negotiated; None refuses compressed messages.
        """
        self._limits = limits
        self._inflate = inflate
        self._pending = b""
        self._frame: Frame | None = None
        self._message: _Message | None = None
        self._ended = False
        self._frames_left = self._pieces_left = limits.frames

    @property
    def inflates(self) -> bool:
        """Whether messages may be compressed."""
        return self._inflate is not None

    def unfinished(self) -> Unfinished | None:
        """Return what the client has begun to send; None if it is between two messages."""
        frame, message = self._frame, self._message
        if not self._pending and frame is None and message is None:
            return None
        return Unfinished(
            self._pending,
            None if frame is None else (frame.opcode, frame.fin, frame.rsv1, frame.mask, frame.left),
            None if message is None else message.begun(),
        )

    def continue_from(self, begun: Unfinished) -> None:
        """Continue what a client has begun to send to another reader with the same limits; call it before `feed`.

        Raises:
            FrameError, ValueError: no reader has left this.
        """
        self._pending = begun.head
        if begun.frame is not None:
            opcode, fin, rsv1, mask, left = begun.frame
            self._frame = Frame(Opcode(opcode), fin, rsv1, 0, mask, left)
        if begun.message is not None:
            opcode, payload, is_compressed = begun.message
            self._message = _Message(Opcode(opcode), self._inflate if is_compressed else None)
            self._message.add(payload, last=False)

    def renew(self) -> None:
        """Reset the count of frames."""
        self._frames_left = self._pieces_left = self._limits.frames

    def feed(self, data: bytes) -> Iterator[Inbound | None]:
        """Yield the events that `data` completes; read them all before feeding again.

        None is yielded for each step that completes nothing. The work between two steps is bounded, whatever the
        client sends, so a caller can do other work in between.

        After an error, a Close or an unfinished iteration, all further bytes are ignored.

        Raises:
            FrameError: at the faulty frame, when the events before it have been yielded.
        """
        try:
            yield from self._events(data)
        except (FrameError, GeneratorExit):
            self._end()
            raise

    def _events(self, data: bytes) -> Iterator[Inbound | None]:
        if len(data) < WHOLE_PIECE_BYTES and self._is_inside_a_frame:
            self._count_piece()
        data, self._pending, at = self._pending + data, b"", 0
        while not self._ended:
            current = self._frame
            if current is None:
                current = self._open(data, at)
                if current is None:
                    self._pending = data[at:]
                    return
                at += current.head_bytes
            chunk = current.take(data, at)
            at += len(chunk)
            self._frame = current if current.left else None
            yield from self._accept(current, chunk)
            if at == len(data):
                return

    @property
    def _is_inside_a_frame(self) -> bool:
        return bool(self._pending) or self._frame is not None

    def _count_frame(self) -> None:
        self._frames_left -= 1
        if self._frames_left < 0:
            raise _flood("too many frames")

    def _count_piece(self) -> None:
        self._pieces_left -= 1
        if self._pieces_left < 0:
            raise _flood("too many small pieces")

    def _open(self, data: bytes, at: int) -> Frame | None:
        """Return the next frame: a data frame once its head is known, a control frame when whole."""
        current = read_head(data, at)
        if current is None:
            return None
        self._check(current)
        if current.is_control and len(data) - at < current.head_bytes + current.left:
            return None
        self._count_frame()
        return current

    def _check(self, current: Frame) -> None:
        """Refuse a frame that is out of order or too long, before any of its payload is buffered."""
        starts = current.opcode in (Opcode.TEXT, Opcode.BINARY)
        if current.rsv1 and not (starts and self._inflate):
            raise protocol_error("reserved bit set")  # RFC 7692 section 6
        if current.is_control:
            return
        if starts and self._message is not None:
            raise protocol_error("new message inside a fragmented one")  # RFC 6455 section 5.4
        if not starts and self._message is None:
            raise protocol_error("continuation without a message")  # RFC 6455 section 5.4
        if current.left > self._limits.frame_bytes:
            raise FrameError(CloseCode.TOO_BIG, "frame too long")
        held_bytes = 0 if self._message is None else len(self._message)
        if held_bytes + current.left > self._limits.message_bytes:
            raise FrameError(CloseCode.TOO_BIG, "message too long")

    def _accept(self, current: Frame, chunk: bytes) -> Iterator[Inbound | None]:
        match current.opcode:
            case Opcode.PING:
                yield Ping(chunk)
            case Opcode.PONG:
                yield Pong(chunk)
            case Opcode.CLOSE:
                self._end()
                yield _read_close(chunk)
            case Opcode.CONTINUATION | Opcode.TEXT | Opcode.BINARY:
                yield from self._collect(current, chunk)
            case _:
                assert_never(current.opcode)

    def _collect(self, current: Frame, chunk: bytes) -> Iterator[Data | None]:
        if self._message is None:
            self._message = _Message(current.opcode, self._inflate if current.rsv1 else None)
        message = self._message
        last = current.fin and not current.left
        message.add(chunk, last)
        if last:
            self._message = None
            yield from message.finish(self._limits.message_bytes)
        else:
            yield None

    def _end(self) -> None:
        self._ended = True
        self._pending = b""
        self._frame = self._message = None
