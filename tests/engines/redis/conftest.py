"""Nodes on the Redis of each file of tests."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engines.redis.nodes import SHORT_S, Nodes, in_shards
from tests.redis_server import RedisServer
from tests.stoppable_line import StoppableLine
from tests.waiting import PATIENCE_S

from channelstream.engines.redis.address import shard_addresses
from channelstream.engines.redis.scripts import scripts

Life = Callable[[Nodes], Coroutine[Any, Any, None]]

LifeOnALine = Callable[[StoppableLine, Nodes, Nodes], Coroutine[Any, Any, None]]

_DOCUMENT = Path(__file__).parents[3] / "docs" / "engines.md"


def by_limited_user(redis: RedisServer) -> str:
    """Return the address with the login of a user who has only the rights that docs/engines.md gives."""
    [user] = re.findall(r"^user (channelstream on .*)$", _DOCUMENT.read_text(), re.MULTILINE)
    assert redis.cli("ACL", "SETUSER", *user.split()) == "OK"
    return redis.address.replace("unix://", "unix://channelstream:PASSWORD@")


def run_on(
    redis: RedisServer,
    shards: int,
    test: Life,
    timeout_s: float = PATIENCE_S,
    lease_s: float = 1.0,
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
    address: str = "",
) -> None:
    """Run a test's coroutine with nodes on an empty Redis; a timeout is shorter only where the test waits for it.

    Args:
        lease_s: longer where beats, and what they set right, are to come too late.
        run: `uvloop.run` where the loop of the server differs from that of asyncio.
        address: with a login; empty means without one.
    """

    async def life() -> None:
        nodes = Nodes(in_shards(address or redis.address, shards), timeout_s, lease_s)
        try:
            await test(nodes)
        finally:
            await nodes.close()

    redis.cli("FLUSHALL")
    run(life())


@pytest.fixture(params=[1, 3], ids="{}-shards".format)
def with_nodes(redis: RedisServer, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a test with nodes on a log of one shard, and on one of three, there as the user of docs/engines.md."""
    address = by_limited_user(redis) if request.param == 3 else redis.address
    return lambda test, **more: run_on(redis, request.param, test, address=address, **more)


@pytest.fixture
def with_one_shard(redis: RedisServer) -> Callable[..., None]:
    return lambda test, **more: run_on(redis, 1, test, **more)


@pytest.fixture
def with_three_shards(redis: RedisServer) -> Callable[..., None]:
    return lambda test, **more: run_on(redis, 3, test, **more)


@pytest.fixture
def with_a_line(redis: RedisServer) -> Iterator[Callable[..., None]]:
    """Run a test with nodes that reach Redis by a line, and with others."""
    line = StoppableLine(redis.socket)

    async def life(test: LifeOnALine, timeout_s: float = SHORT_S) -> None:
        near = Nodes(shard_addresses(f"redis://127.0.0.1:{line.port}/0"), timeout_s)
        others = Nodes(shard_addresses(redis.address))
        try:
            await test(line, near, others)
        finally:
            line.mend()
            await near.close()
            await others.close()

    redis.cli("FLUSHALL")
    yield lambda test, **more: asyncio.run(life(test, **more))
    line.close()


@pytest.fixture
def stopped_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No script ends because of the time it took, as on a Redis whose clock does not move within a script."""
    limits = "SLICE_BYTES, SLICE_US, SLICE_CALLS = 1048576, 5000, 2000"
    assert all(limits in text for text in scripts().values())
    patched = {name: text.replace(limits, limits.replace("5000", "1e12")) for name, text in scripts().items()}
    monkeypatch.setattr("channelstream.engines.redis.link.scripts", lambda: patched)
