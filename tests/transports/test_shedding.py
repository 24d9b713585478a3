"""A server that sheds load, over real sockets: what is open goes on, new work is refused until the load has eased."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvloop
from itsdangerous import TimestampSigner
from tests.conftest import ADMIN_SECRET, PATIENT, SECRET, StartServer
from tests.http_client import async_client, http
from tests.waiting import PATIENCE_S
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.shedding import NO_BOUND, Work, memory_bound
from channelstream.errors import OVERLOADED_RETRY_S
from channelstream.server import Server, build
from channelstream.transports import catch_up
from channelstream.transports.catch_up import PIECE_BYTES
from channelstream.transports.reading import CHUNK

REFUSED = (503, "unavailable", CloseCode.OVERLOADED)


class Stage:
    """A server in this process, which listens on a port."""

    def __init__(self, server: Server, port: int, client: httpx.AsyncClient) -> None:
        self.server = server
        self.port = port
        self.client = client

    def overload(self) -> None:
        """Have the server's next sample be above its bound."""
        self.server.node.shedding.limit(memory_bound(1), NO_BOUND)
        self.server.monitoring.load.sample()

    def ease(self) -> None:
        self.server.node.shedding.limit(NO_BOUND, NO_BOUND)
        self.server.monitoring.load.sample()

    async def post(self, path: str, body: Any) -> httpx.Response:
        signature = TimestampSigner(SECRET).sign(path).decode()
        return await self.client.post(path, json=body, headers={"x-channelstream-secret": signature})

    async def connect(self, user: str) -> str:
        answer = await self.post("/connect", {"username": user, "conn_id": user, "channels": ["a"]})
        conn_id: str = answer.json()["conn_id"]
        return conn_id

    async def publish(self, count: int, text: str = "x") -> None:
        message = {"user": "bob", "channel": "a", "message": {"text": text}}
        answer = await self.post("/message", [message] * count)
        assert answer.status_code == 200

    async def poll(self, query: str) -> httpx.Response:
        return await self.client.get(f"/listen?{query}")

    async def websocket(self, query: str) -> ClientConnection:
        return await connect(f"ws://127.0.0.1:{self.port}/ws?{query}")

    @property
    def refused(self) -> dict[str, int]:
        return {work: count for work, count in self.server.node.shedding.refused.items() if count}


@asynccontextmanager
async def serving() -> AsyncIterator[Stage]:
    times = {f"{name.lower()}_s": float(time_s) for name, time_s in PATIENT.items()}
    settings = Settings(secret=SECRET, admin_secret=ADMIN_SECRET, **times)  # type: ignore[arg-type]
    server, started = build(settings), asyncio.Event()
    server.on_started = started.set
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    task = asyncio.create_task(server.run([listening]))
    async with async_client(base_url=f"http://127.0.0.1:{port}") as client:
        await started.wait()
        try:
            yield Stage(server, port, client)
        finally:
            server.stop()
            await task


def play(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving() as stage, asyncio.timeout(PATIENCE_S):
            await scenario(stage)

    uvloop.run(run())


async def items(stream: ClientConnection) -> list[Any]:
    """Return the next list that is no heartbeat."""
    while not (received := json.loads(await stream.recv())):
        pass
    return list(received)


def texts(received: list[Any]) -> list[str]:
    return [item["message"]["text"] for item in received if item["type"] == "message"]


def outcome(answer: httpx.Response) -> tuple[int, str, int]:
    assert answer.headers["retry-after"] == str(OVERLOADED_RETRY_S)
    body = answer.json()
    return answer.status_code, body["code"], body["close_code"]


def test_open_streams_and_calls_go_on() -> None:
    """A message is accepted and delivered, a known connection gets a further channel, and probes say what is wrong."""

    async def scenario(stage: Stage) -> None:
        async with await stage.websocket(f"conn_id={await stage.connect('ann')}&since=") as stream:
            await items(stream)
            stage.overload()
            await stage.publish(1, "still")
            assert texts(await items(stream)) == ["still"]
            for path, body in (
                ("/connect", {"username": "ann", "conn_id": "ann", "channels": ["b"]}),
                ("/subscribe", {"conn_id": "ann", "channels": ["c"]}),
                ("/info", {}),
            ):
                assert (await stage.post(path, body)).status_code == 200
            ready, alive = [await stage.client.get(path) for path in ("/readyz", "/healthz")]
            assert (ready.status_code, ready.text, alive.status_code) == (503, "overloaded", 200)
            assert (await stage.client.post("/disconnect?conn_id=ann")).status_code == 200
            assert stage.refused == {}

    play(scenario)


def test_new_connections_and_first_streams_are_refused_until_the_load_has_eased() -> None:
    """With 503 and Retry-After on every transport, before the upgrade of a WebSocket; each is counted once."""

    async def scenario(stage: Stage) -> None:
        query = f"conn_id={await stage.connect('ann')}&since="
        stage.overload()
        answer = await stage.post("/connect", {"username": "eve", "channels": ["a"]})
        assert outcome(answer) == REFUSED
        assert stage.refused == {Work.CONNECTION: 1}
        with pytest.raises(InvalidStatus) as refused:
            await stage.websocket(query)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == str(OVERLOADED_RETRY_S)
        assert json.loads(refused.value.response.body)["close_code"] == CloseCode.OVERLOADED
        assert outcome(await stage.poll(query)) == REFUSED
        assert outcome(await stage.client.get(f"/sse?{query}")) == REFUSED
        assert outcome(await stage.poll("conn_id=nobody")) == REFUSED
        assert outcome(await stage.poll("conn_id=%20")) == REFUSED
        assert stage.refused == {Work.CONNECTION: 1, Work.STREAM: 5}
        stage.ease()
        async with await stage.websocket(query) as stream:
            assert await items(stream)
        assert await stage.connect("eve") == "eve"
        assert (await stage.client.get("/readyz")).status_code == 200

    play(scenario)


@pytest.mark.parametrize("since", [True, False])
def test_a_connection_that_had_a_stream_opens_the_next_one(since: bool) -> None:
    """Long polls go on, of older clients too: what a client missed in between is little."""

    async def scenario(stage: Stage) -> None:
        query = f"conn_id={await stage.connect('ann')}"
        await stage.publish(1, "before")
        position = (await stage.poll(f"{query}&since=")).json()[-1].get("position", "")
        stage.overload()
        await stage.publish(2, "during")
        answer = await stage.poll(f"{query}&since={position}" if since else query)
        assert texts(answer.json())[-2:] == ["during"] * 2
        assert stage.refused == {}

    play(scenario)


@pytest.mark.parametrize(
    ("count", "text", "piece"), [(CHUNK + 1, "x", 1 << 20), (2, "x" * PIECE_BYTES, PIECE_BYTES)]
)
def test_a_long_replay_is_refused_and_nothing_is_lost(
    count: int, text: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its events or its bytes, also of older clients; the client has it all when the load has eased."""
    monkeypatch.setattr(catch_up, "PIECE_BYTES", piece)

    async def scenario(stage: Stage) -> None:
        query = f"conn_id={await stage.connect('ann')}&since="
        position = (await stage.poll(query)).json()[-1]["position"]
        await stage.publish(count, text)
        stage.overload()
        answer = await stage.poll(query + position)
        assert outcome(answer) == REFUSED
        assert answer.json()["error"].endswith("try again later; reconnect with `since` in a moment.")
        assert outcome(await stage.poll("conn_id=ann")) == REFUSED  # of an older client
        async with await stage.websocket(query + position) as stream:
            with pytest.raises(ConnectionClosedError) as closed:
                await items(stream)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == CloseCode.OVERLOADED
        assert stage.refused == {Work.REPLAY: 3}
        stage.ease()
        received: list[str] = []
        async with await stage.websocket(query + position) as stream:
            while len(received) < count:
                received += texts(await items(stream))
        assert received == [text] * count

    play(scenario)


def test_a_process_above_its_bound_sheds_from_its_start(start_server: StartServer) -> None:
    """Measured by itself: what applications and probes see, the metric, and the line in the log."""
    server = start_server("--shed-memory-bytes", "1")
    assert server.request("POST", "/connect", {"username": "ann", "channels": ["a"]}).status_code == 503
    assert server.post("/message", {"user": "bob", "channel": "a", "message": {}})
    assert http.get(f"{server.url}/readyz").text == "overloaded"
    metrics = http.get(f"{server.url}/metrics", auth=("admin", server.admin_secret)).text
    assert 'channelstream_shed_total{what="connection",worker="0"} 1.0' in metrics
    assert 'channelstream_shed_total{what="replay",worker="0"} 0.0' in metrics
    _, log = server.stop()
    assert "too much load (memory): new connections and long replays are refused" in log
