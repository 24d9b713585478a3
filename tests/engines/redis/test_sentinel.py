"""A node whose master is known to sentinels: it follows a failover by itself."""

import asyncio
import signal
from pathlib import Path

import pytest
from tests.engines.conformance import message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import Nodes, counted, published
from tests.redis_server import redis_sentinels
from tests.waiting import soon

from channelstream.engines.redis.address import shard_addresses
from channelstream.errors import ConfigError, Unavailable

pytestmark = pytest.mark.slow


def test_a_node_follows_a_failover(tmp_path: Path) -> None:
    """Calls are refused until a replica has taken over, which may lack what was acknowledged: a new log begins."""
    with redis_sentinels(tmp_path, "a-password") as watched:

        async def life() -> None:
            nodes = Nodes(shard_addresses(watched.address), timeout_s=5.0)
            engine, listener = await nodes.member("ann", "a", notify_presence=True)
            speaker, _ = await nodes.node()
            await speaker.publish([message("m1")])
            await soon(lambda: received(listener) == ["m1"])
            before = engine.position
            watched.master.kill()
            # Not before its deadline, by which the other node may have found the new master.
            with pytest.raises(Unavailable):
                await speaker.publish([message("m2")])
            await soon(lambda: listener.renewals == 1)
            await published(speaker, message("m3"))
            await soon(lambda: "m3" in received(listener))
            assert received(listener) == ["m1", "m3"]
            assert engine.position.epochs == speaker.position.epochs != before.epochs
            assert listener.renewals == 1
            await counted(engine, {"a": {"ann": 1}})
            await nodes.close()

        asyncio.run(life())


def test_an_unknown_master_stops_the_start(tmp_path: Path) -> None:
    """With a sentence that names the option."""

    async def life(address: str) -> None:
        with pytest.raises(ConfigError, match=r"engine: .* knows no master called 'other'"):
            await Nodes(shard_addresses(address)).node()

    with redis_sentinels(tmp_path) as watched:
        asyncio.run(life(watched.address.replace("/main/", "/other/")))


def test_a_stopped_sentinel_is_passed_over(tmp_path: Path) -> None:
    """One of three may hang, as it does when its machine is gone: another one is asked."""
    with redis_sentinels(tmp_path) as watched:

        async def life() -> None:
            nodes = Nodes(shard_addresses(watched.address))
            watched.sentinels[0].signal(signal.SIGSTOP)
            engine, _ = await nodes.node()
            await engine.publish([message("m1")])
            await nodes.close()

        asyncio.run(life())
