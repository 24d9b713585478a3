"""The reference server for the API: a minimal ASGI application in uvicorn, `python -m channelstream.bench.reference_api`.

For `/message` it does the necessary work: check the signature, decode the body, give each message an id and a time,
and answer with the list. It stores nothing and delivers nothing.
"""

import os
import socket
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import uvicorn
from itsdangerous import BadData, TimestampSigner

Message = MutableMapping[str, Any]
MAX_AGE_S = 60


def application(secret: str) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application."""
    signer = TimestampSigner(secret)

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        token = next((value for name, value in scope["headers"] if name == b"x-channelstream-secret"), b"")
        try:
            signer.unsign(token, max_age=MAX_AGE_S)
        except BadData:
            await _answer(send, 401, b"false")
            return
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        await _answer(send, 200, _accepted(body))

    return app


def _accepted(body: bytes) -> bytes:
    items = msgspec.json.decode(body)
    for item in items:
        item["uuid"] = str(uuid.uuid4())
        item["timestamp"] = datetime.now(UTC).isoformat()
    return msgspec.json.encode(items)


async def _answer(send: Callable[[Message], Awaitable[None]], status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        application(os.environ["CHANNELSTREAM_SECRET"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
