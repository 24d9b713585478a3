"""A client with a token, over a real WebSocket; and tokens of the application under test."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import jwt
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

SECRET = "a secret of at least thirty-two bytes"


def token(user: str = "ann", life_s: float = 600, secret: str = SECRET, **claims: Any) -> str:
    """Return a token that the application signs with its secret."""
    return jwt.encode(
        {"sub": user, "exp": time.time() + life_s, "iat": time.time()} | claims, secret, "HS256"
    )


class TokenClient:
    """Sends commands and reads items.

    Attributes:
        greeting: the result of `connect`.
    """

    def __init__(
        self, ws_url: str, token: str, max_bytes: int | None = 1 << 20, **connect_fields: Any
    ) -> None:
        self._exits = ExitStack()
        self.stream: ClientConnection = self._exits.enter_context(
            connect(f"{ws_url}/ws", compression=None, max_size=max_bytes)
        )
        self._number = 0
        self._items: list[Any] = []
        self.greeting: dict[str, Any] = self.command("connect", token=token, **connect_fields)

    def command(self, kind: str, **fields: Any) -> Any:
        """Send a command; return its result, or its error."""
        number = self.send(kind, **fields)
        reply = self.until(lambda item: item["type"] == "reply" and item["id"] == number)
        return reply.get("result") or reply.get("error")

    def send(self, kind: str, **fields: Any) -> int:
        """Send a command; return its id."""
        self._number += 1
        self.stream.send(json.dumps({"id": self._number, "type": kind} | fields))
        return self._number

    def item(self) -> Any:
        """Return the next item."""
        while not self._items:
            self._items = json.loads(self.stream.recv(PATIENCE_S))
        return self._items.pop(0)

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first item that is wanted; those before it are dropped."""
        while not wanted(item := self.item()):
            pass
        return item

    def message(self) -> Any:
        """Return the payload of the next message."""
        return self.until(lambda item: item["type"] == "message")["message"]

    def end(self) -> tuple[int, str]:
        """Read to the end; return its close code and reason."""
        try:
            while True:
                self.item()
        except ConnectionClosed as error:
            assert error.rcvd is not None
            return error.rcvd.code, error.rcvd.reason

    def close(self) -> None:
        self._exits.close()
