"""How a node starts, and when it refuses to; what it does when its Redis restarts."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import Recorder, message
from tests.engines.conformance.nodes import received
from tests.engines.redis.conftest import by_limited_user, run_on
from tests.engines.redis.nodes import SHORT_S, Nodes, counted, in_shards, published
from tests.redis_server import RedisServer
from tests.waiting import soon

from channelstream.engines.redis.address import shard_addresses
from channelstream.engines.redis.link_state import NOT_REDIS
from channelstream.errors import ConfigError, Unavailable


def test_a_flushed_redis_has_a_new_epoch(redis: RedisServer, with_nodes: Any) -> None:
    """The node is informed, and registers its connections again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        await engine.publish([message("m1")])
        before = engine.position
        redis.cli("FLUSHALL")
        await soon(lambda: listener.renewals == nodes.shards)
        await published(engine, message("m2"))
        await soon(lambda: "m2" in received(listener))
        assert not set(engine.position.epochs) & set(before.epochs)
        await counted(engine, {"a": {"ann": 1}})

    with_nodes(life)


@pytest.mark.slow
@pytest.mark.parametrize("has_data", [True, False])
def test_a_restarted_redis_has_a_new_epoch(tmp_path: Path, has_data: bool) -> None:
    """Even with its data: the last acknowledged writes may be missing, so that older positions prove nothing."""

    async def life(server: RedisServer) -> None:
        nodes = Nodes(shard_addresses(server.address), SHORT_S)
        engine, listener = await nodes.member("ann", "a", notify_presence=True)
        before = engine.position
        if has_data:
            server.cli("SAVE")
        await engine.publish([message("m1")])
        server.kill()
        with pytest.raises(Unavailable):
            await engine.publish([message("m2")])
        server.start()
        await soon(lambda: listener.renewals == 1)
        await published(engine, message("m3"))
        await soon(lambda: "m3" in received(listener))
        assert engine.position.epochs != before.epochs
        await nodes.close()

    server = RedisServer(tmp_path, "--save", "")
    server.start()
    asyncio.run(life(server))
    server.kill()


def test_an_unreachable_redis_stops_the_start(tmp_path: Path) -> None:
    """With a sentence that names the option, and says what to do."""

    async def life() -> None:
        with pytest.raises(
            ConfigError,
            match=r"^engine: Redis is out of reach: .*[^.]; check that it runs, and the option engine$",
        ):
            await Nodes(shard_addresses(f"unix://{tmp_path}/nothing")).node()

    asyncio.run(life())


@pytest.mark.slow
def test_a_silent_redis_stops_the_start(tmp_path: Path) -> None:
    """A Redis that accepts and never answers is reported as unreachable."""

    async def life() -> None:
        with pytest.raises(ConfigError, match="engine: Redis is out of reach: no answer in time"):
            await Nodes(shard_addresses(f"unix://{tmp_path}/silent"), SHORT_S).node()

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent")
        silent.listen()
        asyncio.run(life())


@contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("login", ["", ":wrong@", "somebody:wrong@"])
def test_a_redis_that_refuses_the_login_stops_the_start(tmp_path: Path, login: str) -> None:
    """With a sentence that says so: without a password, too, where Redis reads no long command."""

    async def life() -> None:
        with pytest.raises(
            ConfigError, match=r"^engine: Redis refuses the login: .*; check .* in the option engine"
        ):
            await Nodes(shard_addresses(f"unix://{login}{server.socket}")).node()

    with running(RedisServer(tmp_path, password="a-password")) as server:
        asyncio.run(life())


def test_a_user_of_redis_needs_no_right_to_ping(redis: RedisServer) -> None:
    """Only what tells whether there is a login uses that command."""
    address = by_limited_user(redis)
    assert redis.cli("ACL", "SETUSER", "channelstream", "-ping") == "OK"

    async def life(nodes: Nodes) -> None:
        await nodes.member("ann", "a")

    run_on(redis, 1, life, address=address)


def test_a_refused_database_stops_the_start(redis: RedisServer) -> None:
    """Redis is not out of reach then."""

    async def life() -> None:
        with pytest.raises(ConfigError, match=r"^engine: Redis cannot be used now: DB index is out of range"):
            await Nodes(shard_addresses(f"{redis.address}?db=9999")).node()

    asyncio.run(life())


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("redis+cluster://127.0.0.1:{port}", "This instance has cluster support disabled"),
        ("redis+sentinel://127.0.0.1:{port}/main", "unknown command '?`?SENTINEL"),
    ],
)
def test_the_error_of_a_start_has_the_refusals_of_members(
    tmp_path: Path, port: str, address: str, refusal: str
) -> None:
    """Of a cluster or of sentinels, and names those that do not answer."""

    async def life() -> None:
        with pytest.raises(ConfigError) as refused:
            await Nodes(shard_addresses(address.format(port=f"{port},localhost:1"))).node()
        text = str(refused.value)
        assert re.search(
            rf"127\.0\.0\.1:{port} refuses: {refusal}.*; localhost:1 does not answer: .*", text
        ), text
        assert "\n" not in text

    with running(RedisServer(tmp_path, port=int(port))):
        asyncio.run(life())


def test_the_error_of_a_start_says_that_a_member_knows_no_master(tmp_path: Path, port: str) -> None:
    """As where the slots of a cluster are not assigned yet."""

    async def life() -> None:
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} knows no master of slot \d+;"):
            await Nodes(shard_addresses(f"redis+cluster://127.0.0.1:{port}")).node()

    with running(RedisServer(tmp_path, "--cluster-enabled", "yes", port=int(port))):
        asyncio.run(life())


STRANGERS = {
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", NOT_REDIS),
    "answers to nothing": (b"+OK\r\n" * 9, NOT_REDIS),
    "numbers": (b":7\r\n", "no answer in time"),
    "nothing": (b"$-1\r\n", "no answer in time"),
    "errors": (b"-ERR what\r\n", "no answer in time"),
    "no text": (bytes(range(256)), NOT_REDIS),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRANGERS)
def test_another_program_on_the_port_of_redis_stops_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Whatever another program answers, the option is named and nothing is logged with a traceback."""
    answer, reason = STRANGERS[kind]

    class Babbling(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport: Any = transport

        def data_received(self, data: bytes) -> None:
            self._transport.write(answer)

    async def life() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_unix_server(Babbling, f"{tmp_path}/stranger"):
            with pytest.raises(ConfigError, match=rf"^engine: Redis .*{reason}"):
                await Nodes(shard_addresses(f"unix://{tmp_path}/stranger"), SHORT_S).node()

    asyncio.run(life())
    assert not [record for record in caplog.records if record.exc_info and record.levelname != "DEBUG"]


def test_another_number_of_shards_is_refused(redis: RedisServer, with_three_shards: Any) -> None:
    """Nodes with different numbers of shards would miss each other's events."""

    async def life(nodes: Nodes) -> None:
        await nodes.node()
        with pytest.raises(
            ConfigError, match=r"another number of shards than the 2 of the address: this is shard 1 of 3"
        ):
            await Nodes(in_shards(redis.address, 2)).node()

    with_three_shards(life)


def test_a_refused_start_leaves_no_connection_open(
    redis: RedisServer, port: str, with_one_shard: Any
) -> None:
    """To none of the shards that could be reached."""

    async def life(_nodes: Nodes) -> None:
        [nowhere] = shard_addresses(f"redis://127.0.0.1:{port}")
        here, there = in_shards(redis.address, 2)
        with pytest.raises(ConfigError):
            await Nodes([here, replace(nowhere, prefix=there.prefix)]).make().start(Recorder())
        await soon(lambda: len(redis.cli("CLIENT", "LIST").strip().splitlines()) == 1)  # That of this call.

    with_one_shard(life)


def test_data_of_another_format_stops_the_start(redis: RedisServer) -> None:
    """With a sentence that says what to do: misread, old texts would be lost, and deleted ones kept."""

    redis.cli("FLUSHALL")

    async def life() -> None:
        nodes = Nodes(shard_addresses(redis.address))
        await nodes.node()
        await nodes.close()
        [log] = redis.cli("KEYS", "*:log").split()
        redis.cli("HDEL", log, "layout")
        with pytest.raises(ConfigError, match=r"has format 1, .* stop all nodes, run FLUSHDB"):
            await Nodes(shard_addresses(redis.address)).node()
        redis.cli("DEL", log)

    asyncio.run(life())


def test_two_services_share_a_redis_by_their_databases(redis: RedisServer) -> None:
    """Though published events arrive from all of them."""

    async def life(one: Nodes, other: Nodes) -> None:
        engine, listener = await one.member("ann", "a")
        speaker, stranger = await other.member("ann", "a")
        for number in range(3):
            await speaker.publish([message(f"other{number}")])
        await engine.publish([message("mine")])
        await soon(lambda: received(listener) == ["mine"] and len(received(stranger)) == 3)
        assert (listener.renewals, stranger.renewals) == (0, 0)
        await one.close()
        await other.close()

    redis.cli("FLUSHALL")
    asyncio.run(life(Nodes(shard_addresses(redis.address)), Nodes(shard_addresses(f"{redis.address}?db=1"))))
