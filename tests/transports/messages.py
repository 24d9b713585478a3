"""Messages of the tests of transports: published with a text, and read again from what a client receives."""

from typing import Any


def publish(server: Any, channel: str, *texts: str) -> None:
    server.post("/message", [{"user": "test", "channel": channel, "message": {"text": t}} for t in texts])


def texts(items: list[Any]) -> list[str]:
    return [item["message"]["text"] for item in items if item["type"] == "message"]
