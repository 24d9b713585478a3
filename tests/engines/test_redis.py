"""The Redis engine: the shared suite over a real Redis, and what is its own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.engines.conformance import *  # noqa: F403
from tests.engines.conformance import MakeEngine, Settle, Setup
from tests.redis_server import RedisServer

from channelstream.clock import new_epoch
from channelstream.engines.base import Engine
from channelstream.engines.ledger import Lifetimes
from channelstream.engines.redis.address import connector
from channelstream.engines.redis.engine import RedisEngine, RedisSettings


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests of this module; each begins with an empty one."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--save", "")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_engine(redis: RedisServer) -> MakeEngine:
    redis.cli("FLUSHALL")

    def make(setup: Setup) -> RedisEngine:
        return RedisEngine(
            connector(redis.address),
            setup.limits,
            Lifetimes(setup.users_s, setup.channels_s),
            lambda: str(uuid4()),
            new_epoch,
            RedisSettings(),
            setup.clock,
        )

    return make


@pytest.fixture
def settle() -> Settle:
    """A replay returns when everything before it was delivered."""

    async def delivered(engine: Engine) -> None:
        await engine.replay("nobody", {}, 0)

    return delivered
