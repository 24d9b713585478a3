"""The services that the screenshots show: real servers, with users, traffic, and clients that do not read."""

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from itsdangerous import TimestampSigner
from websockets.sync.client import connect

SECRET, ADMIN_SECRET = "of the pictures", "of the admin"
PAUSE_S = 0.1
"""Pause between two messages."""
QUIET = "maintenance"
"""A channel in which everybody is, and nothing is sent but for a picture."""
CHANNELS = ("news", "orders/eu", "orders/us", "scores", "support", "ticker")
USERS = (
    "ann",
    "bob",
    "cecilia",
    "dmitri",
    "elena",
    "farid",
    "grace",
    "hiro",
    "ines",
    "jonas",
    "kofi",
    "lena",
)
STOPPED = ("oskar", "petra", "quentin", "rosa", "stefan")
"""Users whose clients do not read."""
UNREAD = {
    "channel": "readings",
    "user": "sensors",
    "message": {"values": [round(n / 7, 3) for n in range(8_000)]},
}
UNREAD_CALLS = 20
"""Calls with ten of these long messages: 9 MB, more than the kernel takes for a client that does not read."""
SETTINGS = {"notify_presence": True, "store_history": True, "history_size": 20}
HANDSHAKE = {
    "ws": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "sse": "Accept: text/event-stream\r\n",
}


class Application:
    """A web application that publishes to the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._signer = TimestampSigner(SECRET)

    def post(self, path: str, body: Any) -> None:
        headers = {"x-channelstream-secret": self._signer.sign(path).decode()}
        httpx.post(self.url + path, json=body, headers=headers).raise_for_status()


def _talk(nodes: Sequence[Application], ended: threading.Event) -> None:
    """Publish to the channels at a varying rate, at one node after the other, until it is stopped."""
    chance = random.Random(7)
    load = 5.0
    for node in cycle(nodes):
        if ended.wait(PAUSE_S):
            return
        load = min(20.0, max(1.0, load + chance.uniform(-2, 2)))
        node.post("/message", [_message(chance) for _ in range(round(load))])


def _message(chance: random.Random) -> dict[str, Any]:
    order = {"order": chance.randrange(10_000, 99_999), "total": chance.randrange(5, 400)}
    return {"channel": chance.choice(CHANNELS), "user": chance.choice(USERS), "message": order}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def served(*flags: str, port: int = 0) -> Iterator[Application]:
    """Run a server while the screenshots are taken."""
    port = port or free_port()
    flags = ("-p", str(port), "-s", SECRET, "-a", ADMIN_SECRET, *flags)
    environ = os.environ | {"CHANNELSTREAM_COOKIE_SECRET": "of the visitors"}
    process = subprocess.Popen([sys.executable, "-m", "channelstream", *flags], env=environ)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url)
        yield Application(url)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    """Run a Redis with its files in a directory; yield what the option `engine` says."""
    path, file = shutil.which("redis-server"), directory / "redis.sock"
    if path is None:
        raise SystemExit("screenshots: no redis-server is on the PATH")
    process = subprocess.Popen(
        [path, "--port", "0", "--unixsocket", str(file), "--dir", str(directory), "--loglevel", "warning"]
    )
    try:
        while not file.exists():
            time.sleep(0.1)
        yield f"unix://{file}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("screenshots: the server did not start")


@contextmanager
def audience(nodes: Sequence[Application], rooms: int = 0, resumes: bool = False) -> Iterator[None]:
    """Create channels, connect users, and publish while the block runs.

    Args:
        nodes: of the service, among which the users are divided.
        rooms: additional channels without messages.
        resumes: the users have the connections of an earlier audience, and open their streams again.
    """
    application, ended = nodes[0], threading.Event()
    application.post("/channel_config", dict.fromkeys(CHANNELS, SETTINGS))
    for start in range(0, rooms, 1000):
        application.post(
            "/channel_config", {f"room-{number:05}": {} for number in range(start, start + 1000)}
        )
    with ExitStack() as streams:
        for number, user in enumerate(USERS):
            node = nodes[number % len(nodes)]
            if not resumes:
                register(node, user, (*CHANNELS[: 2 + number % 5], QUIET), f"{user}-1")
            streams.enter_context(listening(node, f"{user}-1"))
        for user in USERS[:3]:
            register(application, user, ("news",), f"{user}-2")
            with listening(application, f"{user}-2"):
                pass
            application.post("/disconnect", {"conn_id": f"{user}-2"})
        talking = threading.Thread(target=_talk, args=(nodes, ended))
        talking.start()
        try:
            yield
        finally:
            ended.set()
            talking.join()


def register(application: Application, user: str, channels: tuple[str, ...], conn_id: str) -> None:
    state = {"status": "available", "plan": "pro"}
    body = {"username": user, "conn_id": conn_id, "channels": channels, "user_state": state}
    application.post("/connect", body | {"state_public_keys": ["status"]})


@contextmanager
def listening(application: Application, conn_id: str) -> Iterator[None]:
    """Hold a WebSocket of a connection and read from it."""
    with connect(f"{application.url.replace('http', 'ws', 1)}/ws?conn_id={conn_id}&since=") as stream:
        threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()
        yield
        stream.close(1001)


@contextmanager
def stopped_readers(application: Application) -> Iterator[None]:
    """Hold streams of which nothing is read, with more for them than their sockets take."""
    with ExitStack() as sockets:
        for number, user in enumerate(STOPPED):
            body = {"username": user, "conn_id": f"{user}-1", "channels": [QUIET, "readings"]}
            application.post("/connect", body)
            sockets.enter_context(_unread(application, f"{user}-1", "sse" if number % 2 else "ws"))
        for _ in range(UNREAD_CALLS):
            application.post("/message", [UNREAD] * 10)
        yield


@contextmanager
def _unread(application: Application, conn_id: str, transport: str) -> Iterator[None]:
    host = application.url.removeprefix("http://")
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", int(host.partition(":")[2])))
        path = f"/{transport}?conn_id={conn_id}&since="
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{HANDSHAKE[transport]}\r\n".encode())
        yield
