"""The load of one run, and the error of a failed run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct

Transport = Literal["ws", "sse", "poll"]
Signing = Literal["old", "signed"]

WINDOW_MESSAGES = 400
"""Most undelivered messages when publishing without a rate. A log keeps more, so slow clients lose nothing."""
_NAMES = {"ws": "WebSocket", "sse": "SSE", "poll": "long poll"}


class BenchFailed(Exception):
    """A run failed, or the server ended it. The text has the cause in one line."""


@contextmanager
def failing_as_one() -> Iterator[None]:
    """Raise the first error of a group of tasks, which fail for the same reason, in place of the group.

    A group with other errors is raised as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        failures, others = group.split(BenchFailed)
        if others is not None:
            raise
        first: BenchFailed | ExceptionGroup[BenchFailed] | None = failures
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        raise BenchFailed(str(first)) from group


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The load of one run.

    Attributes:
        clients: subscribers, each with its own user and connection.
        channels: channels of each client. All clients have the same ones, and messages go to them in turn.
        messages: number of messages; 0 means none.
        duration_s: publishing time in seconds; 0 means until `messages` are published.
        rate_per_s: messages a second, on a fixed schedule; 0 means as fast as possible.
        publishers: concurrent requests.
        payload_bytes: length of a message's text, without its stamp.
        items: messages in one request.
        deflate: clients offer and require permessage-deflate.
        signing: how calls are signed: the path, once for many calls, or each request as a whole.
        pusher: clients speak Pusher's protocol, over WebSockets.
        idle_s: time with idle clients in which the server's event loop is probed.
        workers: processes that run the clients.
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
    signing: Signing = "old"
    pusher: bool = False
    idle_s: float = 0.0
    workers: int = 1

    @property
    def publishes(self) -> bool:
        return self.messages > 0 or self.duration_s > 0

    def sentence(self) -> str:
        """Describe the load in words."""
        kind = "Pusher" if self.pusher else _NAMES[self.transport]
        parts = [f"{self.clients:,} {kind} clients in {self.channels} channel(s) each"]
        if self.deflate:
            parts.append("compressed")
        if self.idle_s:
            parts.append(f"idle for {self.idle_s:g} s")
        if self.publishes:
            parts.append(self._publishing())
        if self.signing == "signed":
            parts.append("each call signed as a whole")
        return ", ".join(parts)

    def _publishing(self) -> str:
        amount = f"{self.messages:,} messages" if self.messages else f"messages for {self.duration_s:g} s"
        pace = f"{self.rate_per_s:g}/s" if self.rate_per_s else "flat out"
        lists = f" in lists of {self.items}" if self.items > 1 else ""
        return f"{amount} of {self.payload_bytes} bytes{lists} by {self.publishers} publisher(s), {pace}"
