"""Steps of the tests of messages."""

from collections.abc import Callable
from typing import Any

Receive = Callable[[str, str], list[dict[str, Any]]]


def send(server: Any, channel: str, **more: Any) -> Any:
    return server.post("/message", {"user": "poster", "channel": channel, "message": {"n": 1}} | more)


def history(server: Any, channel: str) -> Any:
    """The messages /info shows of a channel."""
    reply = server.post("/info", {"info": {"channels": [channel]}})
    return reply["channels"][channel]["history"]


def keep(server: Any, channel: str, **settings: Any) -> None:
    """Let a channel keep its messages for /info."""
    server.post("/channel_config", {channel: {"store_history": True} | settings})
