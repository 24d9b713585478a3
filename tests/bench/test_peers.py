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
from channelstream.bench.peers import centrifugo, environments
from channelstream.bench.peers.peer import Peer, open_post
from channelstream.bench.progress import Progress
from channelstream.bench.publishing import Addressed, Publisher
from channelstream.bench.servers import product
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


def test_each_peer_delivers_all_and_has_its_row(tmp_path: Path) -> None:
    """Every message reaches every client of a peer, and its row is in the table."""
    document = _compare(tmp_path, "websockets")
    (row,) = document["rows"]
    assert (row["server"], row["lost"], row["ratio"]) == ("websockets", 0, None)
    assert row["bytes_each"] > 100
    assert "| websockets |" in (tmp_path / "peers.md").read_text()


def test_a_peer_that_is_not_installed_is_skipped(tmp_path: Path) -> None:
    """A peer that is not installed is skipped with a sentence that says how to install it."""
    document = _compare(tmp_path, "uWebSockets")
    assert document["rows"] == []
    assert "pip install socketify" in (tmp_path / "peers.md").read_text()


def test_without_a_registry_an_environment_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is skipped with the command that failed. What was made before is used without a command."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environments.sys, "executable", str(tmp_path / "no-python"))
    environment = environments.Environment("some", ("package==1", "other==2"))
    assert environment.python == tmp_path / "channelstream-bench/some/bin/python"
    assert environment.missing() == (
        f"`{tmp_path}/no-python -m venv --clear {environment.python.parents[1]}` failed: is PyPI within reach?"
    )
    environment.python.parents[1].mkdir(parents=True)
    (environment.python.parents[1] / "packages.txt").write_text("package==1\nother==2")
    assert environment.missing() == ""
    assert environments.Environment("some", ("package==2",)).missing() != ""


@pytest.mark.parametrize(("share", "messages"), [(1.0, 250), (0.02, 5), (0.001, 1)])
def test_a_slow_server_is_sent_a_part_of_the_messages(share: float, messages: int) -> None:
    """At least one, at the same rate and to as many clients."""
    peer = Peer("slow", lambda: "", product, share)
    load = Load(clients=7, messages=250, rate_per_s=50)
    assert peer.part_of(load) == Load(clients=7, messages=messages, rate_per_s=50)


def test_centrifugo_is_skipped_where_its_binary_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sentence that says where it is; a program of the name is enough to try it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "github.com/centrifugal/centrifugo/releases" in centrifugo.PEER.missing()
    (tmp_path / "centrifugo").touch(0o755)
    assert centrifugo.PEER.missing() == ""


def test_posted_messages_are_put_into_the_template() -> None:
    """Each is one call, with the message as it is inside of the body of the server's API."""

    async def posted() -> list[bytes]:
        bodies = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                bodies.append(head.split(b" ")[1] + b" " + await reader.readexactly(length))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()
            await writer.wait_closed()
            closed.set()

        closed = asyncio.Event()
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            wire = Wire(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
            publisher = await open_post(wire, "/api/publish", b'{"data":%b}')
            await publisher.publish([("bench", b'{"n":1}'), ("bench", b'{"n":2}')])
            await closed.wait()
            publisher.close()
        return bodies

    assert asyncio.run(posted()) == [b'/api/publish {"data":{"n":1}}', b'/api/publish {"data":{"n":2}}']


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


def test_clients_of_another_server_open_as_it_asks() -> None:
    """Clients of another server open with its texts at its path, and each counts as attached after its answer."""
    assert asyncio.run(_greeted()) == (12, True)
