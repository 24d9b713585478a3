"""Metrics: which calls of an engine are counted, and which of them have failed."""

import asyncio
from collections import Counter
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any

import pytest

from channelstream.engines.base import Engine
from channelstream.engines.cluster import Cluster
from channelstream.errors import Unavailable
from channelstream.integrations.metrics.meter import (
    CLUSTER_OPERATIONS,
    OPERATIONS,
    EngineCalls,
)


class Failing:
    """An engine whose `publish` finds its service out of reach."""

    name = "failing"

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(**dict.fromkeys(CLUSTER_OPERATIONS, self.publish))
        vars(self).update(dict.fromkeys(set(OPERATIONS) - {"publish"}, self._ok))

    async def _ok(self, *arguments: object) -> str:
        return f"answer to {arguments}"

    async def publish(self, *arguments: object) -> str:
        raise Unavailable("out of reach")


def test_a_failed_call_of_an_engine_is_an_error() -> None:
    """The error goes to the caller as it is, and so do answers."""
    calls = EngineCalls()
    engine: Any = calls.measured(Failing())

    async def life() -> str:
        for call in (engine.publish, engine.cluster.ask):
            with pytest.raises(Unavailable):
                await call(1)
        return str(await engine.head(1, 2))

    assert asyncio.run(life()) == "answer to (1, 2)"
    assert engine.name == "failing"
    assert dict(calls.ended) == {"publish": 1, "ask": 1, "head": 1}
    assert calls.failed == Counter(publish=1, ask=1)  # The others are 0.
    assert set(calls.failed) == {*OPERATIONS, *CLUSTER_OPERATIONS}


@pytest.mark.parametrize(("port", "operations"), [(Engine, OPERATIONS), (Cluster, CLUSTER_OPERATIONS)])
def test_every_call_of_an_engine_is_an_operation(port: type, operations: tuple[str, ...]) -> None:
    """Except those of its start, its move and its end."""
    methods = {
        name for base in port.__mro__ for name, method in vars(base).items() if iscoroutinefunction(method)
    }
    assert set(operations) == methods - {"start", "close", "restored_connections", "proceed"}
