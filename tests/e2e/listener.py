"""A client in a process of its own, which can be stopped: `python -m tests.e2e.listener ws PORT CONN_ID POSITION BYTES`.

It prints one JSON object a line: {"handled": [...]} for each list with messages, {"lost": [...]} and {"ended": code}
as they come. BYTES is the size of its receive buffer, 0 for the usual one. Whatever ends its stream, it comes back
from the last message it handled.
"""

import asyncio
import json
import socket
import sys
from typing import Any

from tests.e2e.wire import LONGEST, WIRES, Ended, Items


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Listener:
    """One connection, and the position it has come to."""

    def __init__(self, transport: str, port: int, conn_id: str, position: str, buffer_bytes: int) -> None:
        self._buffer_bytes = buffer_bytes
        self._wire = WIRES[transport]
        self._port = port
        self._conn_id = conn_id
        self._position = position

    async def run(self) -> None:
        """Listen for ever."""
        while True:
            try:
                await self._listen()
            except Ended as end:
                say(ended=end.code)
            except (ConnectionError, asyncio.IncompleteReadError):
                say(ended=None)

    async def _listen(self) -> None:
        line = socket.socket()
        if self._buffer_bytes:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        line.connect(("127.0.0.1", self._port))
        wire = self._wire(*await asyncio.open_connection(sock=line, limit=LONGEST))
        try:
            while True:
                await wire.ask(self._conn_id, self._position)
                self._handle(await wire.items())
                while not wire.answers_once:
                    self._handle(await wire.items())
        finally:
            await wire.close()

    def _handle(self, items: Items) -> None:
        for item in items:
            if item["type"] == "closing":
                raise Ended(item["code"])
            if item["type"] == "resumed":
                say(lost=item["lost"])
            self._position = item["position"]
        if numbers := [item["message"]["n"] for item in items if item["type"] == "message"]:
            say(handled=numbers)


if __name__ == "__main__":
    transport, port, conn_id, position, buffer_bytes = sys.argv[1:]
    asyncio.run(Listener(transport, int(port), conn_id, position, int(buffer_bytes)).run())
