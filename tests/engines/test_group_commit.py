"""Group commits continue, whatever the writer raises."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from tests.waiting import PATIENCE_S, soon

from channelstream.core.facts import ChannelVacated
from channelstream.engines import group_commit
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


class Sealed:
    """A writer that keeps what it was given to write; the first writes may fail."""

    has_more = False

    def __init__(self, failing: int = 0) -> None:
        self.batches: list[Batch] = []
        self._failing = failing

    def seal(self, batch: Batch, probes: bool) -> Callable[[], None]:
        self.batches.append(batch)
        return self._write

    def _write(self) -> None:
        if len(self.batches) <= self._failing:
            raise OSError("full")

    async def written(self, batch: Batch) -> None:
        """Deliver nothing."""

    def rejected(self, batches: list[Batch], deferred: Batch) -> None:
        for batch in batches:
            deferred.repeat(batch)


def play(writer: Sealed, life: Callable[[GroupCommit], Awaitable[None]]) -> None:
    """Run a test with the commits of a writer."""

    async def whole(thread: ThreadPoolExecutor) -> None:
        commits = GroupCommit(writer, thread)
        await asyncio.wait_for(life(commits), PATIENCE_S)
        await commits.close()

    with ThreadPoolExecutor(1) as thread:
        asyncio.run(whole(thread))


def test_what_is_left_of_a_failed_write_is_written_though_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a pause, however often it fails."""
    monkeypatch.setattr(group_commit, "RETRY_S", 0.01)
    writer = Sealed(failing=2)

    async def life(commits: GroupCommit) -> None:
        commits.batch().users.add("ann")
        await soon(lambda: len(writer.batches) == 3 and not commits.is_failing)
        assert [each.users for each in writer.batches] == [{"ann"}] * 3

    play(writer, life)


def test_a_change_that_may_wait_is_written_with_a_flush() -> None:
    writer = Sealed()

    async def life(commits: GroupCommit) -> None:
        commits.deferred()
        await asyncio.sleep(0)
        assert writer.batches == []
        await commits.flush()
        assert len(writer.batches) == 1

    play(writer, life)


def test_every_row_of_a_batch_counts() -> None:
    writer = Sealed()

    async def life(commits: GroupCommit) -> None:
        batch = commits.batch()
        batch.channels.add("a")
        batch.users.update({"ann", "bob"})
        batch.registrations.end("c")
        batch.facts.append(ChannelVacated(id="f", at_ms=0, channel="a"))
        assert (batch.rows, commits.is_writing) == (5, True)
        await commits.flush()
        await soon(lambda: not commits.is_writing)

    play(writer, life)


def test_changes_of_a_block_are_together_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beyond the size of a batch; what comes after the block is in another one."""
    monkeypatch.setattr(group_commit, "BATCH_ROWS", 1)
    writer = Sealed()

    async def life(commits: GroupCommit) -> None:
        with commits.together() as batch:
            batch.users.add("ann")
            assert commits.deferred() is batch
        assert commits.deferred() is not batch
        await commits.written(batch)
        assert writer.batches[0] is batch

    play(writer, life)


def test_a_batch_that_was_kept_open_is_written_and_cannot_be_again() -> None:
    """Else those who keep it open one after the other would keep everything from the disk."""
    writer = Sealed()

    async def life(commits: GroupCommit) -> None:
        batch = commits.deferred()
        assert [commits.hold(), commits.hold()] == [True, False]
        commits.release()
        assert not commits.hold()
        await commits.written(batch)
        assert commits.hold()
        commits.release()

    play(writer, life)
