"""Items received by a WebSocket of the `websockets` package."""

import json
from typing import Any

from tests.waiting import PATIENCE_S
from websockets.sync.client import ClientConnection


def next_items(stream: ClientConnection) -> list[Any]:
    """Read until a list has items: heartbeats, which are empty, come at any time."""
    items: list[Any] = []
    while not items:
        items = json.loads(stream.recv(PATIENCE_S))
    return items
