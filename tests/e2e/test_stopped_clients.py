"""Stopped clients under a full broadcast cost the server little, and the others nothing."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http_client import async_client

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
TRANSPORTS = ("ws", "sse", "poll")
TEXT = "x" * 10_000
PER_REQUEST = 10
REQUESTS = 60
COUNT = PER_REQUEST * REQUESTS
"""6 MB in all: far more than the kernel takes for three clients that do not read."""
OUTBOX_BYTES = 4096
RECEIVE_BYTES = 4096
"""Bytes that the kernel may buffer for a client that is going to stop: few, so that the server soon stalls."""
FLAGS = ("--outbox-bytes", str(OUTBOX_BYTES))
REQUEST_BYTES = PER_REQUEST * (len(TEXT) + 300)
"""Bytes of one request's messages as one frame: a stream counts as slow only after the write that was too much."""
SLACK_BYTES = 4_000_000
"""Memory for everything else: the request at hand, healthy clients, the allocator's reserve."""


@dataclass
class ListeningProcess:
    """The reports of a client in its own process.

    Attributes:
        numbers: the messages it has handled.
        lost: whether a loss was reported to it.
        ended: with which codes its streams ended.
    """

    process: Process
    numbers: list[int] = field(default_factory=list)
    lost: bool = False
    ended: list[int | None] = field(default_factory=list)

    async def more(self) -> None:
        assert self.process.stdout is not None
        report = json.loads(await self.process.stdout.readline())
        self.numbers += report.get("handled", ())
        self.lost |= bool(report.get("lost"))
        self.ended += [report["ended"]] if "ended" in report else []

    async def up_to(self, number: int) -> None:
        while not self.numbers or self.numbers[-1] < number:
            await self.more()

    def suspend(self) -> None:
        """Stop it, and wait until it is stopped."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)


@asynccontextmanager
async def listening(server: Any, transport: str, buffer_bytes: int) -> AsyncIterator[ListeningProcess]:
    answer = server.post("/connect", {"username": "ann", "channels": ["news"]})
    command = (
        "-m",
        "tests.e2e.listener",
        transport,
        str(server.port),
        answer["conn_id"],
        answer["position"],
        str(buffer_bytes),
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=PIPE, cwd=ROOT, limit=1 << 20
    )
    try:
        yield ListeningProcess(process)
    finally:
        process.returncode is None and process.kill()
        await process.communicate()


Stopped = tuple[int, dict[str, ListeningProcess]]
"""By how many bytes the server grew, and the clients that were stopped meanwhile."""


def pss_bytes(server: Any) -> int:
    """Return the memory of the server's process, shared pages in proportion (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Stage:
    """A server with a healthy client and one that is going to stop for each transport."""

    def __init__(
        self,
        server: Any,
        http: httpx.AsyncClient,
        healthy: list[ListeningProcess],
        stopped: list[ListeningProcess],
    ) -> None:
        self.healthy = healthy
        self.stopped = stopped
        self._server = server
        self._http = http
        self._sent = 0

    async def publish(self, count: int, receivers: list[ListeningProcess]) -> None:
        """Publish so many messages in one request, and wait until all of these have handled them."""
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        body = [{"user": "app", "channel": "news", "message": {"n": n, "text": TEXT}} for n in numbers]
        answer = await self._http.post("/message", json=body, headers=self._server.sign("/message"))
        answer.raise_for_status()
        await asyncio.gather(*(received.up_to(numbers[-1]) for received in receivers))

    async def broadcast(self) -> int:
        """Publish while some are stopped; return by how much the server's memory grew at most."""
        before = most = pss_bytes(self._server)
        for _ in range(REQUESTS):
            await self.publish(PER_REQUEST, self.healthy)
            most = max(most, pss_bytes(self._server))
        return most - before

    async def resume(self, lost: bool) -> None:
        """Resume the stopped ones until each has received all messages, or a loss."""
        for client in self.stopped:
            client.process.send_signal(signal.SIGCONT)
        for client in self.stopped:
            while not (client.lost if lost else client.numbers[-1] == self._sent - 1):
                await client.more()


@asynccontextmanager
async def stage(server: Any, log_events: int) -> AsyncIterator[Stage]:
    """Start all clients in one channel, and stop three when all have received a message."""
    server.post("/channel_config", {"news": {"log_events": log_events}})
    async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
        http = await stack.enter_async_context(async_client(base_url=server.url))
        sizes = (*[0] * len(TRANSPORTS), *[RECEIVE_BYTES] * len(TRANSPORTS))
        clients = [
            await stack.enter_async_context(listening(server, name, size))
            for name, size in zip(TRANSPORTS * 2, sizes, strict=True)
        ]
        on = Stage(server, http, clients[:3], clients[3:])
        await on.publish(1, clients)
        for client in on.stopped:
            client.suspend()
        yield on


async def broadcast_to_stopped(server: Any, log_events: int) -> Stopped:
    """Publish while some are stopped, resume them, and let all receive one message more."""
    async with stage(server, log_events) as on:
        grown = await on.broadcast()
        for client in on.healthy:
            assert client.numbers == list(range(COUNT + 1))
            assert client.ended == []
        await on.resume(lost=log_events < COUNT)
        await on.publish(1, on.healthy + on.stopped)
        return grown, dict(zip(TRANSPORTS, on.stopped, strict=True))


def growth_limit(log_events: int) -> int:
    """Return by how many bytes a server may grow: its log, and for each stopped client an outbox that overflowed.

    An entry is its payload, its encoded form, and what the allocator loses by keeping both.
    """
    log_bytes = min(log_events, COUNT) * (3 * len(TEXT) + 2000)
    return log_bytes + len(TRANSPORTS) * (OUTBOX_BYTES + REQUEST_BYTES) + SLACK_BYTES


def test_a_resumed_client_receives_all_that_the_log_keeps(start_server: Callable[..., Any]) -> None:
    """Healthy clients receive all at once; a resumed client receives all it missed, in order, and its stream continues."""
    log_events = 2 * COUNT
    grown, stopped = asyncio.run(broadcast_to_stopped(start_server(*FLAGS), log_events))
    assert grown < growth_limit(log_events)
    for client in stopped.values():
        assert client.numbers == list(range(COUNT + 2))
        assert client.ended == []


def test_a_resumed_client_is_sent_the_loss_where_the_log_is_trimmed(start_server: Callable[..., Any]) -> None:
    """Where the log does not reach back, a resumed client is sent 4008 and `lost`, and then it continues."""
    log_events = 2 * PER_REQUEST
    grown, stopped = asyncio.run(broadcast_to_stopped(start_server(*FLAGS), log_events))
    assert grown < growth_limit(log_events)
    assert {name: client.ended for name, client in stopped.items()} == {
        "ws": [4008],
        "sse": [4008],
        "poll": [],
    }
    for client in stopped.values():
        before, last = client.numbers[:-1], client.numbers[-1]
        assert before == list(range(len(before)))
        assert len(before) < last == COUNT + 1
