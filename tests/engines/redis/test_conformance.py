"""The shared suite of all engines over a real Redis: one shard and several, and payloads beside their records."""

from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.engines.conformance import *  # noqa: F403
from tests.engines.conformance import MakeEngine, Settle, Setup
from tests.engines.conformance.nodes import *  # noqa: F403
from tests.engines.redis.nodes import PREFIX, in_shards
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S

from channelstream.clock import new_epoch
from channelstream.core.registry_limits import Lifetimes
from channelstream.engines.base import Engine
from channelstream.engines.redis import event_text
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_state import RedisSettings


@pytest.fixture
def all_beside(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every payload lies beside its record; in the end Redis has those that a record has, and no other."""
    monkeypatch.setattr(event_text, "BIG_BYTES", 1)
    yield
    for kind in ("c", "u", "h"):
        names = {
            key.removeprefix(PREFIX)[3:]
            for part in "pq"
            for key in redis.cli("KEYS", f"{PREFIX}{kind}{part}:*").split()
        }
        for name in names:
            check_payloads(redis, kind, name)


def check_payloads(redis: RedisServer, kind: str, name: str) -> None:
    """Every payload of a log or a history is that of as many entries as are counted, and these exist."""
    owners, counts = {}, {}
    flat = iter(redis.cli("HGETALL", f"{PREFIX}{kind}q:{name}").split("\n"))
    for field, value in zip(flat, flat, strict=True):
        if field.startswith("@"):
            owners[field[1:]] = value
        else:
            counts[field] = int(value)
    assert Counter(owners.values()) == counts
    assert set(redis.cli("HKEYS", f"{PREFIX}{kind}p:{name}").split()) == set(counts)
    assert set(owners) <= set(redis.cli("HKEYS", f"{PREFIX}{kind}r:{name}").split())


@pytest.fixture
def payloads_within_the_log(make_engine: MakeEngine) -> None:
    if event_text.BIG_BYTES == 1:
        pytest.skip("a message does not take over a payload beside the log")


@pytest.fixture(params=[1, 3, "beside"], ids="{}-shards".format)
def make_engine(redis: RedisServer, request: pytest.FixtureRequest) -> MakeEngine:
    redis.cli("FLUSHALL")
    shards = 1 if request.param == "beside" else request.param
    if request.param == "beside":
        request.getfixturevalue("all_beside")

    def make(setup: Setup) -> RedisEngine:
        return RedisEngine(
            in_shards(redis.address, shards),
            setup.limits,
            Lifetimes(setup.users_s, setup.channels_s),
            lambda: str(uuid4()),
            new_epoch,
            "the node's label",
            RedisSettings(timeout_s=PATIENCE_S),
            setup.clock,
            setup.outbox,
        )

    return make


@pytest.fixture
def settle() -> Settle:
    """A replay returns when everything before it was delivered."""

    async def delivered(engine: Engine) -> None:
        await engine.replay("nobody", {}, 0)

    return delivered
