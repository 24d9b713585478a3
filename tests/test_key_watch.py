"""When streams end whose tokens were signed by a key that is not accepted any more."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.conftest import StartServer
from tests.simulation.loop import VirtualLoop
from tests.token_client import TokenClient

from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.clock import SystemClock
from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.batch import BufferBatch
from channelstream.core.http_head import read_head
from channelstream.core.user import UserUpdate
from channelstream.errors import BadToken
from channelstream.server import Server, build
from channelstream.transports.token_admission import Asked, TokenAdmission
from channelstream.wire.commanding import COMMANDING
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

START_S = 1_800_000_000.0
SECRET = "w" * 32
HEAD = read_head(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def write(file: Path, **ends_s: float | None) -> None:
    """Write a file of keys that expire at these times, in seconds since the epoch."""
    keys: list[dict[str, Any]] = []
    for key_id, end_s in ends_s.items():
        key = {"id": key_id, "secret": SECRET}
        if end_s is not None:
            key["not_after"] = datetime.fromtimestamp(end_s, UTC).isoformat()
        keys.append(key)
    file.touch(0o600)
    file.write_text(json.dumps({"keys": keys}))


class Sink:
    """A stream that a client with a token has opened."""

    format = PROTOCOLS.format_of(COMMANDING, Framing.WEBSOCKET)

    def __init__(self, key_id: str | None, on_close: Callable[[CloseCode], None]) -> None:
        self.client = Client(App(), "ann", START_S + 3600, key_id=key_id)
        self._on_close = on_close

    def write(self, data: bytes) -> None:
        """Send nothing."""

    def close(self, code: CloseCode, reason: str) -> None:
        self._on_close(code)

    def buffered_bytes(self) -> int:
        return 0


class Stage:
    """A server in virtual time, with a stream for each id of a key."""

    def __init__(self, file: Path) -> None:
        self.server: Server = build(
            Settings(secret="x", admin_secret="y", keys_file=str(file), unattached_timeout_s=600.0)
        )
        self.ended_s: dict[str | None, float] = {}

    async def open(self, *key_ids: str | None) -> None:
        node = self.server.node
        await node.start()
        for key_id in key_ids:
            await node.connect(f"c{key_id}", "ann", COMMANDING, {}, UserUpdate({}, {}))
            connection = node.hub.connections[f"c{key_id}"]
            node.hub.attach(connection, Sink(key_id, partial(self._closed, key_id)), BufferBatch(10))
            node.hub.go_live(connection, [])
        self.server.parts.housekeeping.start()

    def _closed(self, key_id: str | None, code: CloseCode) -> None:
        assert code is CloseCode.TOKEN_EXPIRED
        self.ended_s[key_id] = asyncio.get_running_loop().time()


def play(scenario: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = VirtualLoop()
    monkeypatch.setattr(SystemClock, "wall", lambda _: START_S + loop.time())
    monkeypatch.setattr(SystemClock, "steady", lambda _: loop.time())
    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
    assert loop.faults == []


def test_streams_end_a_second_after_their_key_at_the_latest(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other keys go on, also of an issuer's, and of the option `secret`."""
    write(file, one=START_S + 10, two=START_S + 20, web=None)

    async def scenario() -> None:
        stage = Stage(file)
        await stage.open("one", "two", "web", "", None)
        await asyncio.sleep(15)  # virtual time: one key expires
        assert list(stage.ended_s) == ["one"]
        assert 10 < stage.ended_s["one"] <= 11
        await asyncio.sleep(100)  # virtual time: the other one does
        assert list(stage.ended_s) == ["one", "two"]
        await stage.server.parts.housekeeping.stop()

    play(scenario, monkeypatch)


def test_streams_that_another_process_hands_over_end_as_well(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their key was taken away or has expired while the work moved: the first look is at all of them."""
    write(file, old=START_S - 10, web=None)

    async def scenario() -> None:
        stage = Stage(file)
        await stage.open("gone", "old", "web")
        await asyncio.sleep(2)  # virtual time: the first look
        assert list(stage.ended_s) == ["gone", "old"]
        await stage.server.parts.housekeeping.stop()

    play(scenario, monkeypatch)


def test_a_key_that_expires_ends_its_streams_while_the_server_runs(
    file: Path, start_server: StartServer
) -> None:
    """The file was read before."""
    write(file, web=None)
    server = start_server(CHANNELSTREAM_TOKEN_MAX_AGE_S="3600", CHANNELSTREAM_KEYS_FILE=str(file))
    given = jwt.encode({"sub": "ann", "exp": time.time() + 600}, SECRET, "HS256", {"kid": "web"})
    with closing(TokenClient(server.ws_url, given)) as client:
        write(file, web=time.time() + 1)
        server.process.send_signal(signal.SIGHUP)
        assert client.end()[0] == CloseCode.TOKEN_EXPIRED


def test_a_right_that_is_taken_from_a_key_ends_the_streams_that_used_it(
    file: Path, start_server: StartServer
) -> None:
    """As a token that grants as much opens no stream any more; those of other tokens of the key go on."""
    write(file, web=None)
    server = start_server(CHANNELSTREAM_TOKEN_MAX_AGE_S="3600", CHANNELSTREAM_KEYS_FILE=str(file))
    claims = {"sub": "ann", "exp": time.time() + 600, "subscribe": ["news"]}
    reads, writes = (
        jwt.encode(claims | more, SECRET, "HS256", {"kid": "web"}) for more in ({}, {"publish": ["news"]})
    )
    with (
        closing(TokenClient(server.ws_url, reads)) as reader,
        closing(TokenClient(server.ws_url, writes)) as writer,
    ):
        file.write_text(json.dumps({"keys": [{"id": "web", "secret": SECRET, "rights": ["connect"]}]}))
        server.process.send_signal(signal.SIGHUP)
        assert writer.end()[0] == CloseCode.TOKEN_EXPIRED
        assert reader.command("subscribe", channels=["news"])["channels"] == ["news"]


@pytest.mark.replaces_compiled
def test_a_key_that_expires_while_a_stream_opens_opens_none(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams of the key may have been ended before this one is there, and nobody looks again."""
    write(file, web=START_S + 10)
    now_s = START_S
    monkeypatch.setattr(SystemClock, "wall", lambda _: now_s)
    server = build(Settings(secret="x", admin_secret="y", keys_file=str(file), token_max_age_s=3600.0))
    admission = TokenAdmission(server.streams, None)
    given = jwt.encode({"sub": "ann", "exp": START_S + 600}, SECRET, "HS256", {"kid": "web"})
    connect = server.node.connect

    async def connect_slowly(*arguments: Any, **named: Any) -> Any:
        nonlocal now_s
        opened = await connect(*arguments, **named)
        now_s += 11
        return opened

    async def scenario() -> None:
        await server.node.start()
        assert (await admission.admit(Asked(given, "", None), HEAD)).client.user == "ann"
        monkeypatch.setattr(server.node, "connect", connect_slowly)
        with pytest.raises(BadToken, match="revoked"):
            await admission.admit(Asked(given, "", None), HEAD)
        await server.node.close()

    asyncio.run(scenario())
