"""Items received by a WebSocket of the `websockets` package, or from an event stream."""

import json
from collections.abc import Iterator
from typing import Any

from tests.waiting import PATIENCE_S
from websockets.sync.client import ClientConnection


def next_items(stream: ClientConnection) -> list[Any]:
    """Read until a list has items: heartbeats, which are empty, come at any time."""
    items: list[Any] = []
    while not items:
        items = json.loads(stream.recv(PATIENCE_S))
    return items


def sse_items(lines: Iterator[str]) -> Iterator[Any]:
    """Read the items of the lines of an event stream."""
    for line in lines:
        if line.startswith("data:"):
            yield from json.loads(line[5:])
