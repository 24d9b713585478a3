"""`rooms.py PORT`, for an interpreter with python-socketio: a message to /publish is emitted to every client."""

import json
import sys
from typing import Any

import socketio
import uvicorn

# Longer than a run: the load generator does not answer the heartbeats of Engine.IO.
sio = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], ping_interval=600)
rooms = socketio.ASGIApp(sio)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http" or scope["path"] != "/publish":
        await rooms(scope, receive, send)
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    await sio.emit("message", json.loads(body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", loop="uvloop", backlog=4096
    )
