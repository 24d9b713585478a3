"""Measures how a server handles many members that leave a channel at once.

`python -m channelstream.bench.departures --help` lists its options.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import msgspec

from channelstream.bench.application import Application
from channelstream.bench.inbound import DATA_OPCODES, FrameReader
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.probe import longest_turn_ms, probe
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.servers import product
from channelstream.bench.wire import CLOSE_FRAME, Wire, masked

CHANNEL = "storm"
AT_ONCE = 50
"""Clients that are registered and attached concurrently."""
GRACE_S = 20
"""Detach grace of the server: longer than it takes to disconnect all clients, so that they expire together."""
PROBED_S = {"good-bye": 8.0, "lost": GRACE_S + 20.0}
PING_S = 3600
"""Longer than a run: these clients do not answer pings, and would be dropped at the second one."""
QUIET_S = 3.0
SLOW_MS = 20
GOOD_BYE = masked(CLOSE_FRAME, (1000).to_bytes(2))


@dataclass
class Received:
    """What the clients that stay receive."""

    bytes: int = 0
    parted: Counter[str] = field(default_factory=Counter)
    last_s: float = 0.0


class Client(asyncio.Protocol):
    """A WebSocket. Only clients that stay keep what they receive."""

    transport: asyncio.Transport

    def __init__(self, opening: bytes, received: Received | None) -> None:
        self._opening = opening
        self._received = received
        self._read: list[bytes] = []
        self.attached = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._opening)

    def data_received(self, data: bytes) -> None:
        if not self.attached.done():
            self.attached.set_result(None)
        if self._received is not None:
            self._received.bytes += len(data)
            self._received.last_s = time.monotonic()
            self._read.append(data)

    def parted(self) -> Counter[str]:
        """Return the users who left, with the number of events about each."""
        counts: Counter[str] = Counter()
        _, _, frames = b"".join(self._read).partition(b"\r\n\r\n")
        for frame in FrameReader().feed(frames):
            if frame.opcode in DATA_OPCODES:
                counts.update(
                    item["user"]
                    for item in msgspec.json.decode(frame.payload)
                    if item.get("message") == {"action": "parted"}
                )
        return counts


async def _attach(wire: Wire, conn_id: str, received: Received | None) -> Client:
    loop = asyncio.get_running_loop()
    opening = wire.stream("ws", conn_id)
    _, client = await loop.create_connection(lambda: Client(opening, received), wire.host, wire.port)
    await client.attached
    return client


async def crowd(application: Application, prefix: str, count: int, received: Received | None) -> list[Client]:
    """Return WebSockets of that many users of the channel, who are named by the prefix and a number."""

    async def join(name: str) -> Client:
        body = {"username": name, "channels": [CHANNEL], "info": {"include_users": False}}
        made = await application.call("/connect", body)
        return await _attach(application.wire, made["conn_id"], received)

    clients: list[Client] = []
    for first in range(0, count, AT_ONCE):
        names = [f"{prefix}-{number}" for number in range(first, min(count, first + AT_ONCE))]
        clients += await asyncio.gather(*map(join, names))
    return clients


async def _configure(application: Application, with_lists: bool) -> None:
    """Switch presence events on. They are off while the clients join."""
    settings = {"notify_presence": True, "broadcast_presence_with_user_lists": with_lists}
    await application.call("/channel_config", {CHANNEL: settings})


def _leave(clients: list[Client], how: str) -> None:
    for client in clients:
        if how == "good-bye":
            client.transport.write(GOOD_BYE)
            client.transport.close()
        else:
            client.transport.abort()


async def storm(target: Target, how: str, leaving: int, staying: int, with_lists: bool) -> dict[str, object]:
    """Let members leave a channel of which others stay members, and return the figures by name."""
    received = Received()
    application = Application(target.wire)
    stay = await crowd(application, "stays", staying, received)
    leave = await crowd(application, "leaves", leaving, None)
    await _configure(application, with_lists)
    application.close()
    await asyncio.sleep(1.0)  # lets the server finish deferred work
    before_ms, watch = await longest_turn_ms(target.wire), Stopwatch(target)
    with watch:
        probing = asyncio.create_task(probe(target.wire, PROBED_S[how]))
        await asyncio.sleep(0.5)  # the probe runs before the storm begins
        received.bytes = 0
        began_s = time.monotonic()
        _leave(leave, how)
        waits = await probing
        while time.monotonic() - received.last_s < QUIET_S:  # noqa: ASYNC110 - what is on its way has no event
            await asyncio.sleep(0.1)
    for client in stay:
        received.parted += client.parted()
    expected = {f"leaves-{number}": staying for number in range(leaving)}
    return {
        "how": how,
        "leaving": leaving,
        "staying": staying,
        "user lists": with_lists,
        "longest turn before ms": before_ms,
        "longest turn ms": await longest_turn_ms(target.wire),
        "longest wait ms": round(waits.max_ns / 1e6, 1),
        "99th percentile ms": round(waits.percentile_ns(99.0) / 1e6, 2),
        "cpu s": round(watch.cpu_s or 0.0, 2),
        "MB": round(received.bytes / 1e6, 1),
        "over after s": round(received.last_s - began_s, 1),
        "each received once": dict(received.parted) == expected,
    }


async def _run(options: argparse.Namespace) -> None:
    for how in options.how:
        for leaving, with_lists in ((options.leaving, False), (options.leaving // 5, True)):
            flags = ["--detach-grace-s", str(GRACE_S), "--slow-turn-ms", str(SLOW_MS)]
            flags += ["--ping-interval-s", str(PING_S), *options.flag]
            async with product(*flags) as target:
                row = await storm(target, how, leaving, options.staying, with_lists)
            print("  ".join(f"{name}: {value}" for name, value in row.items()), flush=True)


def main() -> None:
    options = options_of("departures", __doc__)
    options.add_argument(
        "--leaving", type=positive, default=10_000, help="members that leave; with user lists a fifth of it"
    )
    options.add_argument("--staying", type=int, default=10, help="members that stay and receive the events")
    options.add_argument("--how", nargs="+", choices=list(PROBED_S), default=list(PROBED_S))
    answer(options, _run)


if __name__ == "__main__":
    main()
