"""Servers that a run starts for itself: the product with its defaults, and the references."""

import asyncio
import os
import re
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, cast

from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Target
from channelstream.bench.wire import Wire

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
SLOW_TURN_MS = "25"
"""So that the length of a turn is known to 5 ms; it costs 0.2 % of the processor."""
HOST = "127.0.0.1"
_LISTENING = re.compile(r"(?:running on \w+://[\d.]+|listening on [\d.]+):(\d+)")
_LINES_KEPT = 20


Reference = Literal["broadcast", "api"]

_REFERENCES: dict[Reference, str] = {
    "broadcast": "channelstream.bench.reference",
    "api": "channelstream.bench.reference_api",
}


def product(*flags: str) -> AbstractAsyncContextManager[Target]:
    """The product on a free port, with its defaults but for these flags, and its loop watched more closely."""
    turns = ("--slow-turn-ms", SLOW_TURN_MS)
    return started("channelstream", ["channelstream", "-p", "0", *turns, *flags], reports_turns=True)


def reference(kind: Reference) -> AbstractAsyncContextManager[Target]:
    """A server to compare with; the one that broadcasts neither registers clients nor checks signatures."""
    return started("reference", [_REFERENCES[kind]], signs=kind == "api")


@asynccontextmanager
async def started(
    name: str, module: Sequence[str], signs: bool = True, reports_turns: bool = False
) -> AsyncIterator[Target]:
    """A server of ours on a free port of this machine, while it is needed.

    Args:
        name: what it is called in the report.
        module: what `python -m` runs; it says on which port it listens and takes its secret from the environment.
        signs: whether its calls are signed.
        tells_turns: whether it says how long the longest turn of its loop was.

    Raises:
        BenchFailed: it does not start.
    """
    secret = secrets.token_hex(16)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *module,
        stdout=PIPE,
        stderr=STDOUT,
        env=_environ(secret),
        start_new_session=True,
    )
    log = cast(asyncio.StreamReader, process.stdout)
    lines: deque[str] = deque(maxlen=_LINES_KEPT)
    try:
        port = await _port(log, lines, name)
        reading = asyncio.ensure_future(_follow(log))
        wire = Wire(host=HOST, port=port, secret=secret if signs else "")
        yield Target(name, wire, process.pid, reports_turns=reports_turns)
    finally:
        await _stop(process)
    await reading


def _environ(secret: str) -> Mapping[str, str]:
    """The environment without settings of the user's own server, whose figures are not asked for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHANNELSTREAM_")}
    return kept | {"CHANNELSTREAM_SECRET": secret}


async def _port(log: asyncio.StreamReader, lines: deque[str], name: str) -> int:
    """Read the log until it names the port."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while line := (await log.readline()).decode(errors="replace"):
                lines.append(line.rstrip())
                if found := _LISTENING.search(line):
                    return int(found[1])
    except TimeoutError:
        lines.append(f"(nothing for {START_TIMEOUT_S:g} s)")
    raise BenchFailed(f"{name} did not start: {' / '.join(lines) or 'it printed nothing'}")


async def _follow(log: asyncio.StreamReader) -> None:
    """Read the log on, so that the server never waits for us."""
    while await log.readline():
        pass


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
