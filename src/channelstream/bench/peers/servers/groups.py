"""`groups.py PORT`, for an interpreter with Django Channels: a message to /publish is sent to the group of all clients."""

import sys
from typing import Any

import django
import uvicorn
from django.conf import settings

CAPACITY = 100_000
"""More messages than a client has waiting in a run: the layer drops further ones silently."""
LAYER = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": CAPACITY}}

settings.configure(SECRET_KEY="bench", INSTALLED_APPS=["channels"], CHANNEL_LAYERS={"default": LAYER})
django.setup()

# Only importable with settings.
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class Subscriber(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("bench", self.channel_name)
        await self.accept()

    async def bench_message(self, event: Any) -> None:
        await self.send(text_data=event["text"])


sockets = URLRouter([path("ws", Subscriber.as_asgi())])


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await sockets(scope, receive, send)
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    await get_channel_layer().group_send("bench", {"type": "bench.message", "text": body.decode()})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        loop="uvloop",
        lifespan="off",
        backlog=4096,
    )
