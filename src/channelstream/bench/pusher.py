"""Clients of Pusher's protocol as subscribers: they are not registered, and subscribe on their own lines."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from channelstream.bench.wire import Wire

_KEY = "bench"
FLAGS = ("--pusher-app-id", "1", "--pusher-key", _KEY, "--pusher-secret", "secret of the bench")
"""Options of a server for such clients."""
PREFIX = "pusher/"
"""Precedes the names of their channels where a message is published."""


def wire_of(wire: Wire, channels: Sequence[str]) -> Wire:
    """Return how such clients open a line to a server and subscribe to channels; they are attached with the last one."""
    texts = [
        msgspec.json.encode({"event": "pusher:subscribe", "data": {"channel": name}}).decode()
        for name in channels
    ]
    path = f"/app/{_KEY}?protocol=7"
    return replace(wire, stream_path=path, opening=tuple(texts), opened_by=channels[-1])
