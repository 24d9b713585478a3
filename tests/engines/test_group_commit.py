"""Group commits continue, whatever the writer raises."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from channelstream.engines.group_commit import Batch, GroupCommit
from channelstream.errors import Unavailable


class Clumsy:
    """A writer that fails at every write."""

    def __init__(self, disk_fails: bool) -> None:
        self._disk_fails = disk_fails

    has_more = False

    def seal(self, batch: Batch, probes: bool) -> Callable[[], None]:
        return self._write

    def _write(self) -> None:
        if self._disk_fails:
            raise OSError("full")

    async def written(self, batch: Batch) -> None:
        raise RuntimeError("a bug in delivery")

    def rejected(self, batches: list[Batch], deferred: Batch) -> None:
        raise RuntimeError("a bug in taking back")


def test_a_fault_after_a_commit_leaves_the_next_request_served() -> None:
    """The commit counts, and the committing task continues."""

    async def life(thread: ThreadPoolExecutor) -> None:
        commits = GroupCommit(Clumsy(disk_fails=False), thread)
        for _ in range(2):
            commits.batch()
            await asyncio.wait_for(commits.flush(), 10)
        await commits.close()

    with ThreadPoolExecutor(1) as thread:
        asyncio.run(life(thread))


def test_a_written_batch_keeps_nothing_to_take_back() -> None:
    """What a change has removed, such as a whole log, is free to go at once."""

    async def life(thread: ThreadPoolExecutor) -> None:
        commits = GroupCommit(Clumsy(disk_fails=False), thread)
        batch = commits.batch()
        batch.undo.append(batch.entries.clear)
        await asyncio.wait_for(commits.flush(), 10)
        assert batch.undo == []
        await commits.close()

    with ThreadPoolExecutor(1) as thread:
        asyncio.run(life(thread))


def test_a_fault_after_a_failed_write_leaves_the_next_request_answered() -> None:
    """Each raises that the disk takes no writes."""

    async def life(thread: ThreadPoolExecutor) -> None:
        commits = GroupCommit(Clumsy(disk_fails=True), thread)
        for _ in range(2):
            commits.batch()
            with pytest.raises(Unavailable):
                await asyncio.wait_for(commits.flush(), 10)
        await commits.close()

    with ThreadPoolExecutor(1) as thread:
        asyncio.run(life(thread))


def test_a_disk_that_takes_no_writes_is_reported_once_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    """However many writes fail in between; meanwhile each write probes the file."""
    probed: list[bool] = []

    class Disk(Clumsy):
        def seal(self, batch: Batch, probes: bool) -> Callable[[], None]:
            probed.append(probes)
            self._disk_fails = len(probed) < 3
            return self._write

        async def written(self, batch: Batch) -> None:
            """Deliver nothing."""

        def rejected(self, batches: list[Batch], deferred: Batch) -> None:
            """Take nothing back."""

    async def life(thread: ThreadPoolExecutor) -> None:
        commits = GroupCommit(Disk(disk_fails=True), thread)
        for fails in (True, True, False, False):
            commits.batch()
            with pytest.raises(Unavailable) if fails else nullcontext():
                await asyncio.wait_for(commits.flush(), 10)
            assert commits.is_failing is fails
        await commits.close()
        assert probed == [False, True, True, False]

    with ThreadPoolExecutor(1) as thread, caplog.at_level(logging.WARNING):
        asyncio.run(life(thread))
    assert [record.getMessage() for record in caplog.records] == [
        "the engine's file takes no writes; trying again: full",
        "the engine's file takes writes again",
    ]
    assert [record.exc_info for record in caplog.records] == [None, None]
