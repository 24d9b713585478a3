"""The head of a client's WebSocket frame, and its mask (RFC 6455 sections 5.2 to 5.5).

Faults of a single frame are found here; faults in the order of frames, by the reader (`frame_reader.py`).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from channelstream.close_codes import CloseCode


class Opcode(IntEnum):
    """Type of a frame (RFC 6455 section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


CONTROL_BYTES: Final = 125
"""Longest payload of a control frame (RFC 6455 section 5.5)."""

PIECE_BYTES: Final = 65_536
"""Most of a payload that is unmasked or inflated in one step: 0.3 ms (measured)."""

FIN: Final = 0x80
RSV1: Final = 0x40
_RSV2_RSV3: Final = 0x30
_MASKED: Final = 0x80
_OPCODES: Final = {int(opcode): opcode for opcode in Opcode}
_LENGTH_FIELD_BYTES: Final = {126: 2, 127: 8}


class FrameError(Exception):
    """The client broke the protocol: close the connection with this code and reason."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def protocol_error(reason: str) -> FrameError:
    return FrameError(CloseCode.PROTOCOL_ERROR, reason)


@dataclass(slots=True)
class Frame:
    """A frame whose head is known; `left` payload bytes are still to come, the next masked by `mask[0]`."""

    opcode: Opcode
    fin: bool
    rsv1: bool
    head_bytes: int
    mask: bytes
    left: int

    @property
    def is_control(self) -> bool:
        return self.opcode >= Opcode.CLOSE

    def take(self, data: bytes, at: int) -> bytes:
        """Return, unmasked, the next `PIECE_BYTES` at most of what `data` holds of the payload from index `at` on."""
        masked = data[at : at + min(self.left, PIECE_BYTES)]
        plain = _unmask(masked, self.mask)
        rotation = len(masked) % 4
        self.mask = self.mask[rotation:] + self.mask[:rotation]
        self.left -= len(masked)
        return plain


def _unmask(data: bytes, mask: bytes) -> bytes:
    # One XOR of two big integers is 0.7 µs for 100 bytes and 4.5 ns a byte for large ones; a loop over
    # the bytes takes ten times as long, and a translation table per mask byte wins only above 4 KiB.
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def read_head(data: bytes, at: int) -> Frame | None:
    """Return the frame that begins at index `at`, or None while its head is incomplete."""
    if len(data) - at < 2:
        return None
    first, second = data[at], data[at + 1]
    opcode = _check_first_bytes(first, second)
    length = second & 0x7F
    mask_at = at + 2 + _LENGTH_FIELD_BYTES.get(length, 0)
    if len(data) < mask_at + 4:
        return None
    if length >= 126:
        length = _extended_length(data[at + 2 : mask_at])
    mask = data[mask_at : mask_at + 4]
    return Frame(opcode, bool(first & FIN), bool(first & RSV1), mask_at + 4 - at, mask, length)


def _check_first_bytes(first: int, second: int) -> Opcode:
    opcode = _OPCODES.get(first & 0x0F)
    if opcode is None:
        raise protocol_error("reserved opcode")  # RFC 6455 section 5.2
    if first & _RSV2_RSV3:
        raise protocol_error("reserved bit set")  # RFC 6455 section 5.2
    if not second & _MASKED:
        raise protocol_error("frame is not masked")  # RFC 6455 section 5.1
    if opcode >= Opcode.CLOSE and not first & FIN:
        raise protocol_error("fragmented control frame")  # RFC 6455 section 5.5
    if opcode >= Opcode.CLOSE and second & 0x7F > CONTROL_BYTES:
        raise protocol_error("control frame too long")  # RFC 6455 section 5.5
    return opcode


def _extended_length(field: bytes) -> int:
    length = int.from_bytes(field)
    if length >> 63:
        raise protocol_error("length has its top bit set")  # RFC 6455 section 5.2
    # "The minimal number of bytes MUST be used to encode the length" (RFC 6455 section 5.2).
    if length < (126 if len(field) == 2 else 1 << 16):
        raise protocol_error("length is not minimal")
    return length
