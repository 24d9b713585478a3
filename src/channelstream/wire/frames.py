"""The WebSocket frames that a server sends (RFC 6455): built once, and shared by all recipients."""

from typing import Final

from channelstream.wire.frame_head import CONTROL_BYTES, FIN, RSV1, Opcode


def frame(opcode: Opcode, payload: bytes, rsv1: bool = False) -> bytes:
    """Return one whole unmasked frame, as a server sends it.

    Args:
        opcode: what the payload is.
        payload: at most `CONTROL_BYTES` for a control frame.
        rsv1: the payload is compressed (RFC 7692 section 6).
    """
    first = FIN | opcode | (RSV1 if rsv1 else 0)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def text_frame(payload: bytes) -> bytes:
    """Return a text message; `payload` is UTF-8 already."""
    return frame(Opcode.TEXT, payload)


PING: Final = frame(Opcode.PING, b"")
"""The heartbeat all connections share."""


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping, which repeats its payload (RFC 6455 section 5.5.3)."""
    return frame(Opcode.PONG, payload)


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Return a close frame.

    Args:
        code: None sends a frame without a code, which the client reports as 1005 (a number that must not be sent).
        reason: cut to the 123 bytes left beside the code, never inside a character.
    """
    if code is None:
        return frame(Opcode.CLOSE, b"")
    cut = reason.encode()[: CONTROL_BYTES - 2].decode(errors="ignore")
    return frame(Opcode.CLOSE, code.to_bytes(2) + cut.encode())
