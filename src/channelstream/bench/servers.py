"""Servers that a run starts: the product with its defaults, and the references."""

import asyncio
import os
import re
import secrets
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.util import find_spec
from typing import Literal, cast

from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Target
from channelstream.bench.programs import start_program
from channelstream.bench.wire import Wire

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
SLOW_TURN_MS = "25"
"""With this value a turn is measured to 5 ms; it costs 0.2 % of a processor."""
HOST = "127.0.0.1"
_LISTENING = re.compile(r"(?:running on \w+://[\d.]+|listening on [\d.]+):(\d+)")
_LINES_KEPT = 20


Reference = Literal["broadcast", "api"]

_REFERENCES: dict[Reference, str] = {
    "broadcast": "channelstream.bench.reference",
    "api": "channelstream.bench.reference_api",
}


_REQUIRES: dict[Reference, tuple[str, ...]] = {"broadcast": (), "api": ("uvicorn", "httptools")}
"""Packages that only the extra `bench` installs."""


def missing_for(kind: Reference) -> str:
    """Return what a reference server lacks, as a sentence; empty if it can be started."""
    if all(find_spec(package) for package in _REQUIRES[kind]):
        return ""
    return f"the {kind} reference is not measured: it takes `pip install {' '.join(_REQUIRES[kind])}`"


def product(*flags: str, secret: str = "") -> AbstractAsyncContextManager[Target]:
    """Start the product on a free port, with these flags and a low limit for slow turns.

    Args:
        secret: what several servers of a run have in common; empty for one of its own.
    """
    module = ["channelstream", "-p", "0", "--slow-turn-ms", SLOW_TURN_MS, *flags]
    return started("channelstream", module, secret=secret, reports_turns=True)


def reference(kind: Reference) -> AbstractAsyncContextManager[Target]:
    """Start a reference server. The `broadcast` one neither registers clients nor checks signatures."""
    return started("reference", [_REFERENCES[kind]], signs=kind == "api")


@asynccontextmanager
async def started(
    name: str, module: Sequence[str], signs: bool = True, secret: str = "", reports_turns: bool = False
) -> AsyncIterator[Target]:
    """Start a server on a free port of this machine, and end it with the context.

    Args:
        name: its name in the report.
        module: module for `python -m`. It prints its port and reads its secret from the environment.
        signs: whether calls are signed.
        secret: with which; empty for a random one.
        reports_turns: whether it reports the longest turn of its event loop.

    Raises:
        BenchFailed: the server does not start.
    """
    secret = secret or secrets.token_hex(16)
    environ = own_environ() | {"CHANNELSTREAM_SECRET": secret}
    process = await start_program(*module, stdout=PIPE, stderr=STDOUT, environ=environ)
    log = cast(asyncio.StreamReader, process.stdout)
    lines: deque[str] = deque(maxlen=_LINES_KEPT)
    try:
        port = await _port(log, lines, name)
        reading = asyncio.ensure_future(_follow(log))
        wire = Wire(host=HOST, port=port, secret=secret if signs else "")
        try:
            yield Target(name, wire, process.pid, reports_turns=reports_turns)
        finally:
            await stop(process)
            await _stop_successor(process.pid, reading)
    finally:
        await stop(process)


def own_environ() -> dict[str, str]:
    """Return the environment without settings of the user's own server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CHANNELSTREAM_")}


async def _port(log: asyncio.StreamReader, lines: deque[str], name: str) -> int:
    """Read the log until it has the port."""
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
    """Continue to read the log, so that the server does not block on a full pipe."""
    while await log.readline():
        pass


async def stop(process: Process) -> None:
    """End a server and wait for its end; kill it if it takes too long."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):  # It ended at this moment.
            process.kill()
        await process.wait()


async def _stop_successor(pid: int, reading: asyncio.Future[None]) -> None:
    """End the process to which a server that has ended has handed over, if there is one, and read the log to its end.

    Args:
        pid: of the server that was started. Its successors are of its group, and have its log.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not reading.done():
            with suppress(ProcessLookupError):  # There is none: the end of the log is not read yet.
                os.killpg(pid, number)
            await asyncio.wait((reading,), timeout=STOP_TIMEOUT_S)
    await reading
