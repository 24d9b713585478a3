"""A client in a process of its own, which can be stopped: `python -m tests.e2e.listener ws PORT CONN_ID POSITION BYTES`.

It prints one JSON object a line: {"handled": [...]} for each list with messages, {"lost": [...]} and {"ended": code}
as they come. BYTES is the size of its receive buffer, 0 for the usual one. It comes back from the last message it
received, as `ResumingClient` decides, without waits.
"""

import asyncio
import json
import socket
import sys
import time
from contextlib import aclosing
from typing import Any

from tests.e2e.steps import Driver, resuming
from tests.e2e.wire import LONGEST, WIRES, Items, Wire

from channelstream_client.protocol import LOST
from channelstream_client.resuming import OpenStream, Stop, Wait


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def listen(transport: str, port: int, conn_id: str, position: str, buffer_bytes: int) -> None:
    """Listen until the server ends the connection."""

    async def open_wire() -> Wire:
        line = socket.socket()
        if buffer_bytes:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        line.connect(("127.0.0.1", port))
        return WIRES[transport](*await asyncio.open_connection(sock=line, limit=LONGEST))

    driver = Driver(resuming(conn_id, position), open_wire)
    while True:
        match driver.client.next_step(time.monotonic()):
            case OpenStream() as opening:
                async with aclosing(driver.lists(opening)) as lists:
                    async for items in lists:
                        handle(items)
            case Wait(wait_s=wait_s, down=down):
                if down is not None:
                    say(ended=None if down.code == LOST else down.code)
                await asyncio.sleep(wait_s)  # real time: the client decides it, and only polls need it.
            case Stop(error=error):
                raise SystemExit(str(error))


def handle(items: Items) -> None:
    for item in items:
        if item["type"] == "resumed":
            say(lost=item["lost"])
    if numbers := [item["message"]["n"] for item in items if item["type"] == "message"]:
        say(handled=numbers)


if __name__ == "__main__":
    transport, port, conn_id, position, buffer_bytes = sys.argv[1:]
    asyncio.run(listen(transport, int(port), conn_id, position, int(buffer_bytes)))
