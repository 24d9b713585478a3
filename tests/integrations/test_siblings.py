"""The sockets on which workers ask each other for their metrics."""

import asyncio
from pathlib import Path

import pytest

from channelstream.integrations.metrics.samples import Family
from channelstream.integrations.metrics.siblings import Siblings, Worker


async def nothing() -> list[Family]:
    return []


@pytest.mark.parametrize("is_orphan", [False, True])
def test_the_last_worker_removes_the_directory_if_the_supervisor_is_dead(
    tmp_path: Path, is_orphan: bool
) -> None:
    """A living supervisor will start other workers there."""
    directory = tmp_path / "d"
    directory.mkdir()

    async def life() -> None:
        siblings = Siblings(Worker(directory), nothing)
        siblings.are_orphans = is_orphan
        await siblings.listen()
        assert (directory / "0.sock").exists()
        siblings.close()

    asyncio.run(life())
    assert directory.exists() != is_orphan
    assert not (directory / "0.sock").exists()
