"""What is asked of a server in one run, and the error of a run that cannot be had."""

from typing import Literal

from msgspec import Struct

Transport = Literal["ws", "sse", "poll"]

WINDOW_MESSAGES = 400
"""Messages that may be on their way when publishing flat out: fewer than a log keeps, so that slow clients lose nothing."""
_NAMES = {"ws": "WebSocket", "sse": "SSE", "poll": "long poll"}


class BenchFailed(Exception):
    """A run could not be made, or the server ended it; the text says why in one line."""


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run.

    Attributes:
        clients: subscribers, each with a user and a connection of its own.
        channels: channels of each client; all have the same ones, and messages take turns in them.
        messages: how many are published; 0 means none.
        duration_s: publishing ends after so many seconds; 0 means after `messages`.
        rate_per_s: messages a second, on a fixed schedule; 0 means flat out.
        publishers: requests under way at once.
        payload_bytes: length of a message's text, without its stamp.
        items: messages in one request.
        deflate: clients offer permessage-deflate, and insist on it.
        idle_s: time for which the connected clients are left alone and the server's loop is probed.
        workers: processes the clients are spread over.
    """

    clients: int = 1000
    transport: Transport = "ws"
    channels: int = 1
    messages: int = 200
    duration_s: float = 0.0
    rate_per_s: float = 0.0
    publishers: int = 8
    payload_bytes: int = 100
    items: int = 1
    deflate: bool = False
    idle_s: float = 0.0
    workers: int = 1

    @property
    def publishes(self) -> bool:
        return self.messages > 0 or self.duration_s > 0

    def sentence(self) -> str:
        """Say what the run is, in words."""
        parts = [f"{self.clients:,} {_NAMES[self.transport]} clients in {self.channels} channel(s) each"]
        if self.deflate:
            parts.append("compressed")
        if self.idle_s:
            parts.append(f"idle for {self.idle_s:g} s")
        if self.publishes:
            parts.append(self._publishing())
        return ", ".join(parts)

    def _publishing(self) -> str:
        amount = f"{self.messages:,} messages" if self.messages else f"messages for {self.duration_s:g} s"
        pace = f"{self.rate_per_s:g}/s" if self.rate_per_s else "flat out"
        lists = f" in lists of {self.items}" if self.items > 1 else ""
        return f"{amount} of {self.payload_bytes} bytes{lists} by {self.publishers} publisher(s), {pace}"
