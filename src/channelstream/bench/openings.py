"""What it costs a server to open a stream by each kind of credentials: `python -m channelstream.bench.openings`.

The kinds take turns in one run, with the same WebSockets, one after the other. An application calls `/connect` before its
browser opens a stream by a `conn_id`; a client with a token needs no such call, so both together are a kind, too.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import jwt
import msgspec

from channelstream.bench.application import Application
from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.servers import product
from channelstream.bench.wire import TEXT_FRAME, Wire

TOKEN_AGE_S = 3600
CHANNEL = "openings"
FLAGS = ("--token-max-age-s", str(TOKEN_AGE_S), "--unattached-timeout-s", "600")
"""The latter lets connections wait for their streams while other kinds have their turns."""
SETTLE_S = 0.3
"""Time in which the server ends the streams of the turn before, in seconds."""
USERS = 50
"""The users of all streams; a user has several, as one with several tabs."""


@dataclass
class Opened:
    """The streams of a turn, which are closed after its clock has stopped."""

    wire: Wire
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def open(self, target: str) -> bytes:
        """Open a WebSocket, and return what the server sends first.

        Raises:
            BenchFailed: it refuses the stream.
        """
        reader, writer = await asyncio.open_connection(self.wire.host, self.wire.port)
        self.writers.append(writer)
        writer.write(self.wire.upgrade(target))
        head = await reader.readuntil(b"\r\n\r\n")
        first = await reader.read(65_536)
        if b" 101 " not in head or first[:1] != bytes([TEXT_FRAME]):
            raise BenchFailed(f"a stream is refused: {(head + first).decode(errors='replace')[:200]}")
        return first

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self.writers), return_exceptions=True)
        self.writers.clear()


@dataclass(frozen=True)
class Opener:
    """Opens streams in each way."""

    application: Application
    opened: Opened

    async def registered(self, count: int) -> list[str]:
        return [await self._register(number) for number in range(count)]

    async def _register(self, number: int) -> str:
        body = {"username": f"user-{number % USERS}", "channels": [CHANNEL]}
        conn_id: str = (await self.application.call("/connect", body))["conn_id"]
        return conn_id

    def tokens(self, count: int) -> list[str]:
        claims = {"exp": int(time.time()) + TOKEN_AGE_S - 60, "channels": [CHANNEL]}
        secret = self.opened.wire.secret
        return [
            jwt.encode(claims | {"sub": f"user-{number % USERS}"}, secret, "HS256") for number in range(count)
        ]

    async def by_conn_id(self, count: int) -> Callable[[], Awaitable[None]]:
        conn_ids = await self.registered(count)

        async def run() -> None:
            for conn_id in conn_ids:
                await self.opened.open(f"/ws?conn_id={conn_id}&since=")

        return run

    async def with_connect(self, count: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            for number in range(count):
                await self.opened.open(f"/ws?conn_id={await self._register(number)}&since=")

        return run

    async def by_token(self, count: int) -> Callable[[], Awaitable[None]]:
        tokens = self.tokens(count)

        async def run() -> None:
            for token in tokens:
                await self.opened.open(f"/ws?token={token}")

        return run


KINDS: Mapping[str, Callable[[Opener, int], Awaitable[Callable[[], Awaitable[None]]]]] = {
    "by conn_id": Opener.by_conn_id,
    "/connect, and by conn_id": Opener.with_connect,
    "by token": Opener.by_token,
}


async def cost_us(target: Target, opener: Opener, kind: str, count: int) -> float:
    """Return the server's CPU for a stream that is opened so, in microseconds.

    Raises:
        BenchFailed: a stream is refused.
    """
    run = await KINDS[kind](opener, count)
    await asyncio.sleep(SETTLE_S)
    watch = Stopwatch(target)
    try:
        with watch:
            await run()
    finally:
        await opener.opened.close()
    return watch.rate(count).cpu_us_each or 0.0


async def compare(flags: list[str], count: int, rounds: int) -> dict[str, float]:
    """Return the medians of the CPU for a stream of each kind, in microseconds, of turns that alternate."""
    figures: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with product(*FLAGS, *flags) as target:
        wire = msgspec.structs.replace(target.wire, signs_whole=True)
        opener = Opener(Application(wire), Opened(wire))
        try:
            for _ in range(rounds):
                for kind, measured in figures.items():
                    measured.append(await cost_us(target, opener, kind, count))
        finally:
            opener.application.close()
    return {kind: median(rows) for kind, rows in figures.items()}


async def _run(options: argparse.Namespace) -> None:
    rows = await compare(options.flag, options.streams, options.rounds)
    print(f"{'opened':28}{'CPU us/stream':>14}")
    for kind, cpu_us in rows.items():
        print(f"{kind:28}{cpu_us:14.1f}")


def main() -> None:
    options = options_of("openings", __doc__)
    options.add_argument("--streams", type=positive, default=400, help="streams of each turn")
    options.add_argument("--rounds", type=positive, default=9, help="turns of each kind")
    answer(options, _run)


if __name__ == "__main__":
    main()
