"""Settings of the transports: bounds and intervals."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Bounds and intervals of streams; sizes in bytes, times in seconds.

    Attributes:
        outbox_bytes: unsent bytes at which a stream is stalled.
        inbound_bytes: longest message of a WebSocket client.
        inbound_frames: most WebSocket frames of a client between two pings.
        compression: accept permessage-deflate if a WebSocket client offers it.
    """

    heartbeat_interval_s: float = 5.0
    ping_interval_s: float = 20.0
    poll_timeout_s: float = 5.0
    detach_grace_s: float = 10.0
    poll_gap_s: float = 15.0
    outbox_bytes: int = 65_536
    inbound_bytes: int = 131_072
    inbound_frames: int = 200
    compression: bool = False
