"""What a WebSocket client has begun to send, when its stream moves to another process."""

from msgspec import Struct


class Unfinished(Struct, frozen=True, array_like=True):
    """What a client has begun to send, for a reader in another process.

    Attributes:
        head: bytes of a frame whose head, or whose control payload, is not complete.
        frame: opcode, FIN, RSV1, mask and remaining bytes of a data frame whose payload is not complete.
        message: opcode and payload of a message whose frames are not complete, and whether it is compressed.
    """

    head: bytes
    frame: tuple[int, bool, bool, bytes, int] | None
    message: tuple[int, bytes, bool] | None
