"""The comparison with other servers, on the one that is always available."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, broadcast, serve

from channelstream.bench.load import Load
from channelstream.bench.measure import Target, measure
from channelstream.bench.progress import Progress
from channelstream.bench.publishing import Addressed, Publisher
from channelstream.bench.wire import Wire

pytestmark = pytest.mark.slow

_SMALL = ("--clients", "5", "--messages", "20", "--paced-messages", "5", "--socketify-python", "")


def _compare(tmp_path: Path, peers: str) -> dict:
    command = [
        sys.executable,
        "-m",
        "channelstream.bench.peers",
        *_SMALL,
        "--peers",
        peers,
        "--output",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return json.loads((tmp_path / "peers.json").read_bytes())


def test_table(tmp_path: Path) -> None:
    """Every message reaches every client of a peer, and its row is in the table."""
    document = _compare(tmp_path, "websockets")
    (row,) = document["rows"]
    assert (row["server"], row["lost"], row["ratio"]) == ("websockets", 0, None)
    assert row["bytes_each"] > 100
    assert "| websockets |" in (tmp_path / "peers.md").read_text()


def test_missing_peer(tmp_path: Path) -> None:
    """A peer that is not installed is skipped with a sentence that says how to install it."""
    document = _compare(tmp_path, "uWebSockets")
    assert document["rows"] == []
    assert "pip install socketify" in (tmp_path / "peers.md").read_text()


class _Greeter:
    """A server that takes clients at one path, after their first text; it publishes the messages it is given."""

    def __init__(self) -> None:
        self.greeted: set[ServerConnection] = set()

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/elsewhere"
        assert await connection.recv() == "hello"
        self.greeted.add(connection)
        await connection.send("welcome")
        await connection.wait_closed()

    async def publish(self, messages: Sequence[Addressed]) -> None:
        for _, text in messages:
            broadcast(self.greeted, text.decode())

    def close(self) -> None:
        pass


async def _greeted() -> tuple[int, bool]:
    greeter = _Greeter()

    async def publisher(_: Wire) -> Publisher:
        return greeter

    async with serve(greeter.handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        wire = Wire(
            host="127.0.0.1", port=port, stream_path="/elsewhere", opening=("hello",), opened_by="welcome"
        )
        target = Target("greeter", wire, publisher=publisher)
        measured = await measure(target, Load(clients=3, messages=4, publishers=1), Progress(None))
    assert measured.delivery is not None
    return measured.delivery.expected, measured.is_right


def test_opening() -> None:
    """Clients of another server open with its texts at its path, and each counts as attached after its answer."""
    assert asyncio.run(_greeted()) == (12, True)
