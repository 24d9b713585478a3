"""What the transports are told at start: bounds and intervals."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Bounds and intervals of streams; sizes in bytes, times in seconds.

    Attributes:
        outbox_bytes: unsent bytes at which a stream counts as slow.
        inbound_bytes: longest message a WebSocket client may send.
        inbound_frames: WebSocket frames a client may send between two pings.
        head_bytes: longest head of a request.
        head_timeout_s: how long a client may take to send it.
        body_timeout_s: how long a client may take to send what follows the head.
        compression: agree to permessage-deflate where a WebSocket client offers it.
    """

    heartbeat_interval_s: float = 5.0
    ping_interval_s: float = 20.0
    poll_timeout_s: float = 5.0
    detach_grace_s: float = 10.0
    poll_gap_s: float = 15.0
    outbox_bytes: int = 65_536
    inbound_bytes: int = 131_072
    inbound_frames: int = 200
    head_bytes: int = 32_768
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    compression: bool = False
