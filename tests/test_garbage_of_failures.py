"""Calls that fail with their engine leave nothing to the garbage collector, as those of strangers (`test_garbage`)."""

import asyncio
import gc
import json
import resource
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from itsdangerous import TimestampSigner
from tests.census import left_by, passing_client
from tests.engines.conformance.lab import EMPTY
from tests.engines.redis.nodes import Nodes
from tests.redis_server import RedisServer, running_redis
from tests.waiting import PATIENCE_S, soon

from channelstream.config import Settings
from channelstream.engines.members import Leaving, Member
from channelstream.engines.redis.address import shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.link import Link
from channelstream.errors import Unavailable
from channelstream.http.shared import HttpServer
from channelstream.server import build
from channelstream.wire.channelstream import V07

pytestmark = pytest.mark.slow

ROUNDS = 20
IN_FLIGHT_ROUNDS = 6
SECRET = "a-secret-of-the-tests"
MANY = [f"u{number}" for number in range(1_500)]
REFUSED: dict[str, tuple[str, Any]] = {
    "a message": ("/message", [{"user": "a", "channel": "c", "message": 1}]),
    "messages": ("/message", [{"user": "a", "channel": "c", "message": 1}] * 3),
    "a message for very many users": ("/message", [{"user": "a", "pm_users": MANY, "message": 1}]),
    "a new connection": ("/connect", {"username": "b", "channels": ["c", "d"]}),
    "the end of a connection": ("/disconnect", {"conn_id": None}),
    "a state": ("/user_state", {"user": "a", "user_state": {"x": 1}}),
    "settings": ("/channel_config", {"c": {"store_history": True}}),
}
"""Calls that write; None stands for the id of a connection."""
IN_FLIGHT = {
    "a read": ("/info", {"channels": ["c"]}),
    "a subscription": ("/connect", {"username": "b", "channels": ["c", "d"]}),
}
"""Calls that fail when the link with Redis breaks, and not at a deadline of seconds."""


async def call(http_server: HttpServer, path: str, payload: Any) -> tuple[int, Any]:
    """Send a signed call on a connection of its own; return its answer when nothing holds the connection any more."""
    loop = asyncio.get_running_loop()
    body, answer = json.dumps(payload).encode(), b""
    async with passing_client(http_server) as (far, _):
        signature = TimestampSigner(SECRET).sign(path).decode()
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nx-channelstream-secret: {signature}\r\n"
        await loop.sock_sendall(far, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(PATIENCE_S):
            while part := await loop.sock_recv(far, 65_536):
                answer += part
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(content)


async def connect(http_server: HttpServer) -> str:
    status, answer = await call(http_server, "/connect", {"username": "a", "channels": ["c"]})
    assert status == 200
    conn_id: str = answer["conn_id"]
    return conn_id


@contextmanager
def failing_redis(directory: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    with running_redis(directory) as redis:
        yield redis.address, redis.kill


@contextmanager
def full_disk(directory: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A file in which nothing more fits: no file of this process may grow beyond one page."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield (
            f"sqlite:///{directory}/state.db",
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1])),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("engine", [failing_redis, full_disk])
def test_calls_that_an_engine_refuses_are_gone(
    engine: Callable[[Path], Any], kind: str, tmp_path: Path
) -> None:
    """However often an engine fails, all that belonged to a call is freed with its answer."""
    path, payload = REFUSED[kind]

    async def scenario(address: str, fail: Callable[[], None]) -> None:
        server = build(Settings(secret=SECRET, engine=address))
        await server.node.start()
        http_server = server._http_server
        ids = [await connect(http_server) for _ in range(ROUNDS + 1)]
        fail()
        await until_refused(lambda: call(http_server, *REFUSED["a message"]))

        async def life() -> None:
            own = {"conn_id": ids.pop()} if path == "/disconnect" else payload
            assert (await call(http_server, path, own))[0] == 503

        try:
            assert await left_by(life, ROUNDS) == {}
        finally:
            await server.node.close()

    with engine(tmp_path) as (address, fail):
        uvloop.run(scenario(address, fail))


def test_connections_that_cannot_be_unregistered_leave_nothing(tmp_path: Path) -> None:
    """Nor does the error that says so, whose reason is that of one of them."""

    async def scenario(redis: RedisServer) -> None:
        nodes = Nodes(shard_addresses(redis.address))
        engine, _ = await nodes.node()
        leaving = [Leaving(Member(name, name, V07), ["c"]) for name in "ab"]
        for each in leaving:
            await engine.connect(each.member, EMPTY, {"c": {}})
        redis.kill()

        async def life() -> None:
            assert await is_refused(engine, leaving)

        assert await left_by(life, ROUNDS) == {}
        await nodes.close()

    with running_redis(tmp_path) as redis:
        uvloop.run(scenario(redis))


async def is_refused(engine: RedisEngine, leaving: Sequence[Leaving]) -> bool:
    try:
        await engine.disconnect_all(leaving)
    except Unavailable:
        return True
    return False


async def until_refused(ask: Callable[[], Awaitable[tuple[int, Any]]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await ask())[0] != 503:
            await asyncio.sleep(0)


def waits(thing: object) -> bool:
    """Whether a thing is a link on which a call or a subscription waits for its answer."""
    return isinstance(thing, Link) and bool(thing._calls or thing.subscription._confirmations)


def keeps_callers() -> bool:
    """Whether the frame of a generator that has ended refers to its caller's: python/cpython#100964, not mended in 3.12."""

    def raised() -> Iterator[BaseException]:
        try:
            int("")
        except ValueError as error:
            yield error

    [error] = raised()
    assert error.__traceback__ is not None
    return error.__traceback__.tb_frame.f_back is not None


@pytest.mark.skipif(keeps_callers(), reason="in this CPython, what redis-py leaves refers to frames of ours")
@pytest.mark.parametrize("kind", IN_FLIGHT)
def test_calls_in_flight_are_gone_with_their_link(kind: str, tmp_path: Path) -> None:
    """What waits for Redis when it is killed leaves nothing of ours; of a link redis-py leaves objects of its own."""

    async def scenario() -> None:
        with running_redis(tmp_path) as redis:
            server = build(Settings(secret=SECRET, engine=redis.address))
            await server.node.start()
            http_server = server._http_server

            async def life() -> None:
                async with asyncio.timeout(PATIENCE_S):
                    while (await call(http_server, *IN_FLIGHT["a read"]))[0] != 200:
                        await asyncio.sleep(0)
                redis.signal(signal.SIGSTOP)
                waiting = asyncio.create_task(call(http_server, *IN_FLIGHT[kind]))
                await soon(lambda: any(map(waits, gc.get_objects())))
                redis.kill()
                assert (await waiting)[0] == 503
                redis.start()

            left = await left_by(life, IN_FLIGHT_ROUNDS)
            assert [name for name in left if name.startswith("channelstream")] == []

    uvloop.run(scenario())
