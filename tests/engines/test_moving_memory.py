"""The memory engine moves to another process: the shared suite."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.engines.conformance.moving import *  # noqa: F403
from tests.engines.moves import Processes
from tests.engines.test_memory import memory_engine

from channelstream.engines.base import Engine


async def at_once(engine: Engine) -> None:
    """The receiver is called before `publish` returns."""


@pytest.fixture
def processes() -> Iterator[Processes]:
    epochs = iter(("first", "second", "third"))
    with asyncio.Runner() as runner:
        processes = Processes(runner, lambda setup: memory_engine(setup, next(epochs)), at_once)
        yield processes
        processes.end()
