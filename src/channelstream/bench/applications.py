"""Measures what one application notices of another one at its limit: `python -m channelstream.bench.applications`.

The quiet application publishes at a steady pace, from a process of its own. It does so alone, then beside a noisy one with
many clients that publishes twice what it may, then beside one that sends its next call with each answer, whatever that
says, and last beside one that does so without a limit. These take turns, several times, and each figure is the median of the
rounds.

What is asked is how the server shares its time. So the noisy application, with its clients, has the lowest priority on the
machine: where it has fewer processors than processes, the quiet caller would wait for a processor, and not for the server.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from msgspec import structs

from channelstream.bench.application import Application
from channelstream.bench.caller import CallerProcess, calling
from channelstream.bench.http import open_http
from channelstream.bench.load import BenchFailed
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.results import Percentiles
from channelstream.bench.servers import product
from channelstream.bench.wire import Wire

QUIET, NOISY, BOUNDLESS = "quiet", "noisy", "boundless"
SECRETS = {app_id: f"the secret of {app_id}" for app_id in (QUIET, BOUNDLESS, NOISY)}
CHANNEL = "noise"
QUIET_PER_S = 100.0
NOISY_PER_S = 100
"""The limit of the noisy application; the boundless one has none."""
CLIENTS = 100
"""Of the noisy application; each gets all of its messages."""
CONNECTIONS = 4
"""Over which the noisy application calls."""

LOWEST = 19
"""The lowest priority of a process (nice(2))."""


class Round(NamedTuple):
    """A situation in one round.

    Attributes:
        answered: the calls of the quiet application.
        accepted, refused: those of the noisy one, in a second.
    """

    answered: Percentiles
    accepted: float
    refused: float


class Noise:
    """The noisy application.

    Attributes:
        accepted, refused: its calls so far.
    """

    def __init__(self, wire: Wire) -> None:
        self.accepted = self.refused = 0
        self._wire = wire
        self._body = msgspec.json.encode({"user": "noisy", "channel": CHANNEL, "message": "x" * 100})

    async def paced(self) -> None:
        """Publish twice what it may, evenly, until cancelled."""
        due_s = time.monotonic()
        async for call in self._calls():
            await asyncio.sleep(due_s - time.monotonic())
            await call()
            due_s += CONNECTIONS / (2 * NOISY_PER_S)

    async def hammering(self) -> None:
        """Publish without a pause until cancelled."""
        async for call in self._calls():
            await call()

    async def _calls(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        connection = await open_http(self._wire, None)
        request = self._wire.post("/message", self._body, self._wire.signature("/message"))

        async def call() -> None:
            try:
                await connection.call(request)
            except BenchFailed as error:
                if " 429: " not in str(error):
                    raise
                self.refused += 1
            else:
                self.accepted += 1

        try:
            while True:
                yield call
        finally:
            connection.close()


class Situation(NamedTuple):
    """What happens beside the quiet application.

    Attributes:
        app_id: the other one.
        noise: what it does; None: nothing.
    """

    app_id: str = NOISY
    noise: Callable[[Noise], Awaitable[None]] | None = None


SITUATIONS = {
    "alone": Situation(),
    "beside one that publishes twice its limit": Situation(NOISY, Noise.paced),
    "beside one that calls without a pause": Situation(NOISY, Noise.hammering),
    "beside one that does so without a limit": Situation(BOUNDLESS, Noise.hammering),
}


async def measure(
    flags: Sequence[str], rounds: int, seconds: float, yield_processor: Callable[[], object]
) -> dict[str, list[Round]]:
    """Measure all situations in turn; return their rounds.

    Args:
        yield_processor: gives this process, which is the noisy application, a lower priority; called when the server and
            the quiet caller run, so that they keep theirs.

    Raises:
        BenchFailed: the server does not start, or refuses a call for another reason than the limit.
    """
    found: dict[str, list[Round]] = {name: [] for name in SITUATIONS}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        server = await stack.enter_async_context(product("-i", _configuration(Path(folder)), *flags))
        wires = {
            app_id: structs.replace(server.wire, prefix=f"/app/{app_id}", secret=secret)
            for app_id, secret in SECRETS.items()
        }
        caller = await stack.enter_async_context(calling([wires[QUIET]], QUIET_PER_S))
        yield_processor()
        for _ in range(rounds):
            for name, (app_id, noise) in SITUATIONS.items():
                async with _clients(wires[app_id] if noise else None):
                    found[name].append(await _round(caller, wires[app_id], noise, seconds))
    return found


def _configuration(folder: Path) -> str:
    path = folder / "applications.ini"
    sections = [f"[app:{app_id}]\nsecret = {secret}\n" for app_id, secret in SECRETS.items()]
    path.write_text("".join(["[channelstream]\n", *sections, f"max_message_rate = {NOISY_PER_S}\n"]))
    return str(path)


async def _round(
    caller: CallerProcess, wire: Wire, noise: Callable[[Noise], Awaitable[None]] | None, seconds: float
) -> Round:
    noisy = Noise(wire)
    tasks = [asyncio.ensure_future(noise(noisy)) for _ in range(CONNECTIONS)] if noise else []
    try:
        await asyncio.sleep(seconds / 10)  # What is sent at once after a pause is gone.
        await caller.lap()
        accepted, refused = noisy.accepted, noisy.refused
        await asyncio.sleep(seconds)
        lap = await caller.lap()
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if lap.failed:
        raise BenchFailed(f"{lap.failed} calls of the quiet application failed")
    per_s = [(noisy.accepted - accepted) / seconds, (noisy.refused - refused) / seconds]
    return Round(lap.answered_ms, *per_s)


class _Client(asyncio.Protocol):
    """A client that reads and counts nothing."""


@asynccontextmanager
async def _clients(wire: Wire | None) -> AsyncIterator[None]:
    """Open the streams of the noisy application."""
    loop, transports = asyncio.get_running_loop(), list[asyncio.Transport]()
    if wire is None:
        yield
        return
    application = Application(wire)
    try:
        for _ in range(CLIENTS):
            opened = await application.call("/connect", {"username": "noisy", "channels": [CHANNEL]})
            transport, _ = await loop.create_connection(_Client, wire.host, wire.port)
            transport.write(wire.stream("ws", opened["conn_id"]))
            transports.append(transport)
        yield
    finally:
        for transport in transports:
            transport.abort()
        application.close()


def text_of(found: dict[str, list[Round]]) -> str:
    """Return the figures as a table."""
    alone = median(each.answered.p99 for each in found["alone"])
    rows = [
        "| the quiet application | p50 ms | p99 ms | of p99 alone | noisy: accepted, refused a second |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, rounds in found.items():
        p50, p99 = (median(getattr(each.answered, which) for each in rounds) for which in ("p50", "p99"))
        accepted, refused = (
            median(getattr(each, which) for each in rounds) for which in ("accepted", "refused")
        )
        rows.append(f"| {name} | {p50:.2f} | {p99:.2f} | {p99 / alone:.2f} | {accepted:.0f}, {refused:.0f} |")
    return "\n".join(rows)


async def _run(options: argparse.Namespace) -> None:
    found = await measure(options.flag, options.rounds, options.seconds, partial(os.nice, LOWEST))
    print(text_of(found))


def main() -> None:
    options = options_of("applications", __doc__)
    options.add_argument("--rounds", type=positive, default=5, help="how often each situation is measured")
    options.add_argument("--seconds", type=float, default=5.0, help="how long each time")
    answer(options, _run)


if __name__ == "__main__":
    main()
