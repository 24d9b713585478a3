"""The memory engine moves to another process: the shared suite."""

import asyncio
import subprocess
import sys
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


@pytest.mark.slow
def test_what_reads_the_state_is_loaded_with_the_engine() -> None:
    """When it moves, another version may be on the disk, whose modules do not fit those that run."""
    script = "import sys, channelstream.engines.memory; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "channelstream.engines.moved_state" in ended.stdout.split()
