"""Resuming over real sockets: events lost on a broken line are sent again, once and in order, or reported lost.

`CUT_LINES_SEED` repeats the lines and requests of a run that failed, and the nodes they went to; the order of things between
processes differs.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from random import Random, SystemRandom
from typing import Any

import pytest
from tests.conftest import fleet
from tests.e2e.cut_lines.client import Client
from tests.e2e.cut_lines.line import CuttingLine
from tests.e2e.cut_lines.publisher import Audience, Publisher
from tests.e2e.cut_lines.truth import PRIVATE, Truth
from tests.fleet import Fleet

pytestmark = pytest.mark.slow

DEADLINE_S = 200.0
REQUESTS = 100
LOSING_REQUESTS = 50
"""Where the log keeps next to nothing: clients are sent a loss about forty times."""
CHANNELS = ("news", "sport", "talk")
TRANSPORTS = {
    "ann": ("ws",),
    "bob": ("ws",),
    "cat": ("ws", "sse"),
    "dan": ("sse",),
    "eve": ("sse",),
    "fay": ("sse", "poll"),
    "gus": ("poll",),
    "hal": ("poll",),
    "ivy": ("poll", "ws", "sse"),
}
"""Users with the transports they choose from whenever they come back."""


@pytest.fixture(params=["memory", "sqlite", "three nodes"])
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One server with an engine of its own, or three on a Redis of their own, started for one test."""
    directory = tmp_path_factory.mktemp("engine")
    if request.param == "three nodes":
        with fleet(directory) as nodes:
            yield nodes
    else:
        engine = "memory" if request.param == "memory" else f"sqlite:///{directory}/state.db"
        yield request.getfixturevalue("start_server")("--engine", engine)


def seed() -> int:
    return int(os.environ.get("CUT_LINES_SEED") or SystemRandom().randrange(1_000_000))


def register(server: Any, truth: Truth, random: Random, configs: dict[str, Any]) -> list[Client]:
    """Connect every user to two channels or all three."""
    clients = []
    for user, transports in TRANSPORTS.items():
        channels = random.sample(CHANNELS, random.randint(2, 3))
        answer = server.post("/connect", {"username": user, "channels": channels, "channel_configs": configs})
        client = Client(truth, user, frozenset(channels), transports, Random(random.random()))
        client.registered(answer["conn_id"], answer["position"])
        clients.append(client)
    return clients


async def listen_through_cut_lines(
    server: Any, clients: list[Client], publisher: Publisher, random: Random, requests: int
) -> int:
    """Publish while every client listens through a line of its own; return how often a line was cut."""
    async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(CuttingLine(server, Random(random.random()))) for _ in clients
        ]
        async with asyncio.TaskGroup() as group:
            for client, line in zip(clients, lines, strict=True):
                group.create_task(client.run(line.port))
            group.create_task(publisher.run(requests))
        return sum(line.cuts for line in lines)


def run(server: Any, configs: dict[str, Any], requests: int = REQUESTS) -> tuple[Truth, list[Client]]:
    """Let all clients receive all events; each stream is judged when it ends."""
    number = seed()
    random = Random(number)
    truth = Truth()
    if isinstance(server, Fleet):
        server.begin(str(number))
    try:
        clients = register(server, truth, random, configs)
        publisher = Publisher(server, truth, Audience(CHANNELS, tuple(TRANSPORTS)), Random(random.random()))
        cuts = asyncio.run(listen_through_cut_lines(server, clients, publisher, random, requests))
    except BaseException as error:
        error.add_note(f"Repeat with CUT_LINES_SEED={number}")
        raise
    assert cuts > requests // 20 * len(clients)
    _, log = server.stop()
    assert "Traceback" not in log, log
    return truth, clients


def test_nothing_is_missed(started: Any) -> None:
    """With logs of the usual size every client receives all of its channels once, in order, and nothing is lost.

    Nor is anything sent to a stream that was edited or deleted before the stream was asked for.
    """
    truth, clients = run(started, {})
    for client in clients:
        received = [number for record in client.records for number in record.received]
        due = truth.numbers_for(client.user, client.channels)
        # A message may have been deleted before this client came for it; each stream has been judged by that.
        assert received == [
            number for number in due if number in received or truth.deletion_of(number) is None
        ]
        assert not any(record.lost for record in client.records)


@pytest.mark.parametrize("started", ["memory", "three nodes"], indirect=True)
def test_losses_are_named(started: Any) -> None:
    """With logs of a few events much is lost: it is named and not replayed, and later events have no gap."""
    _, clients = run(started, {name: {"log_events": 5} for name in CHANNELS}, LOSING_REQUESTS)
    lost = [record.lost for client in clients for record in client.records]
    assert any(lost)
    assert not any(PRIVATE in names for names in lost)
