"""What several modules of the tests of an upgrade share: an engine, and what is tried."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.redis_server import RedisServer
from tests.upgrade.stage import Stage


@pytest.fixture(params=["memory", "sqlite", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an engine."""
    if request.param != "redis":
        return "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/state.db"
    redis: RedisServer = request.getfixturevalue("redis")
    redis.cli("FLUSHALL")
    return redis.address


@pytest.fixture(params=["committed", "thawed"])
def move(request: pytest.FixtureRequest) -> Callable[[Stage], Any]:
    """What is tried: a move to another process, and one of which nothing comes."""
    return Stage.upgrade if request.param == "committed" else Stage.fail
