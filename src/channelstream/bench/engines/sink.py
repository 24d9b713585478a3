"""A process of many clients that read cheaply: `python -m channelstream.bench.engines.sink ORDER`.

It registers them, opens their WebSockets, and then reads these only from time to time. So data that a node wrote with
many writes is read at once, at a small part of the node's cost of writing. It counts messages, prints the total on a
line whenever it has changed, and ends with its stdin. It does not check messages; a few other clients do.
"""

import asyncio
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from channelstream.bench.application import Application
from channelstream.bench.load import BenchFailed
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.wire import Wire

SWEEP_S = 0.25
AT_ONCE = 250
"""Clients registered before their streams are opened."""
READ_BYTES = 1 << 20
TIMEOUT_S = 30.0
MARK = b':"@'
"""Text that every message contains once (`channelstream.bench.stamps`). A shorter one could occur in frame lengths."""
KEPT = len(MARK) - 1
"""Most bytes at the end of a read that may be the beginning of a mark."""
HEAD_END = b"\r\n\r\n"


class Order(Struct, frozen=True):
    """The order to the process.

    Attributes:
        wires: the nodes; clients are divided evenly among them.
        channel: the channel of all clients.
    """

    wires: list[Wire]
    clients: int
    channel: str


def main() -> int:
    order = msgspec.json.decode(sys.argv[1], type=Order)
    use_all_descriptors()
    try:
        sockets = list(_all_sockets(order))
        _say(0)
        _sweep(sockets)
    except (BenchFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _all_sockets(order: Order) -> Iterator[socket.socket]:
    share = -(-order.clients // len(order.wires))
    for number, wire in enumerate(order.wires):
        left = min(share, order.clients - number * share)
        while left > 0:
            count = min(AT_ONCE, left)
            for conn_id in asyncio.run(_registered(wire, order.channel, count)):
                yield _stream(wire, conn_id)
            left -= count


async def _registered(wire: Wire, channel: str, count: int) -> list[str]:
    """Register clients, some concurrently."""
    application = Application(wire)
    quiet = {"include_history": False, "include_users": False, "channels": []}

    async def register(number: int) -> str:
        name = f"sink-{time.monotonic_ns()}-{number}"
        made = await application.call("/connect", {"username": name, "channels": [channel], "info": quiet})
        conn_id: str = made["conn_id"]
        return conn_id

    found = await asyncio.gather(*map(register, range(count)))
    application.close()
    return found


def _stream(wire: Wire, conn_id: str) -> socket.socket:
    """Open a WebSocket. Bytes after its head are read later, because nothing is published yet."""
    opened = socket.create_connection((wire.host, wire.port), TIMEOUT_S)
    opened.sendall(wire.stream("ws", conn_id))
    head = b""
    while HEAD_END not in head:
        data = opened.recv(READ_BYTES)
        head += data
        if not data or not head.startswith(b"HTTP/1.1 101"[: len(head)]):
            raise BenchFailed(f"a stream was not opened: {head[:200]!r}")
    opened.setblocking(False)
    return opened


def _sweep(sockets: Sequence[socket.socket]) -> None:
    """Read from all sockets repeatedly, until stdin ends."""
    buffer = bytearray(KEPT + READ_BYTES)
    fresh = memoryview(buffer)[KEPT:]
    ends = [bytes(KEPT)] * len(sockets)
    count = said = 0
    while not select.select([sys.stdin], [], [], SWEEP_S)[0]:
        for number, each in enumerate(sockets):
            try:
                size = each.recv_into(fresh)
            except BlockingIOError:
                continue
            if not size:
                raise BenchFailed("a stream was closed by the server")
            buffer[:KEPT] = ends[number]
            count += buffer.count(MARK, 0, KEPT + size)
            ends[number] = bytes(buffer[size : size + KEPT])
        if count != said:
            said = count
            _say(said)


def _say(count: int) -> None:
    sys.stdout.write(f"{count}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
