"""The SQLite engine moves to another process, by its file: the shared suite."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.engines.conformance.lab import EMPTY, Recorder, Setup, message
from tests.engines.conformance.moving import *  # noqa: F403
from tests.engines.conformance.restarts import ANN
from tests.engines.moves import Processes, build
from tests.engines.sqlite_runs import sqlite_engine
from tests.engines.test_sqlite_connections import flush, killed

from channelstream.core.position import ReadRange
from channelstream.engines.members import RestoredConnection
from channelstream.engines.sqlite import SqliteEngine
from channelstream.errors import CannotHandOver, Unavailable


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    numbers = iter(range(1_000_000, 9_000_000, 1_000_000))
    with asyncio.Runner() as runner:
        processes = Processes(
            runner, lambda setup: sqlite_engine(tmp_path / "state.db", setup, next(numbers)), flush
        )
        yield processes
        processes.end()


def test_what_the_other_process_has_written_does_not_count(tmp_path: Path) -> None:
    """It had the file for a moment, and has ended: its events are not in the log of the process that goes on."""
    path = tmp_path / "state.db"

    async def life() -> None:
        engine, other, last = (sqlite_engine(path, Setup(), number * 1_000_000) for number in (1, 2, 3))
        await engine.start(Recorder())
        await engine.connect(ANN, EMPTY)
        await engine.join(ANN, {"a": {}})
        await engine.publish([message("m1")])
        for source in (engine.copy(), engine.hand_over()):
            build(other, [record async for record in source], (), ())
        other.take_over()
        await other.start(Recorder())
        await other.publish([message(f"stray {number}") for number in range(3)])
        await killed(other)
        await engine.proceed()
        await engine.publish([message("m2")])
        await killed(engine)
        await last.start(Recorder())
        replayed = await last.replay("ann", {"a": 0}, 100)
        assert [entry.event.uuid for entry in replayed.entries] == ["m1", "m2"]
        await last.close()

    asyncio.run(life())


def test_what_a_history_shows_is_in_the_file_after_a_move(tmp_path: Path) -> None:
    """The other process had not written it apart from the event, which the log drops later."""
    path = tmp_path / "state.db"

    async def life() -> None:
        engine, other, last = (sqlite_engine(path, Setup(), number * 1_000_000) for number in (1, 2, 3))
        await engine.start(Recorder())
        await engine.connect(ANN, EMPTY)
        await engine.join(ANN, {"a": {"store_history": True, "log_events": 1}})
        await engine.publish([message("m1")])
        await moved(engine, other)
        await other.publish([message("m2"), message("m3")])
        await other.collect()
        await other.flush()
        await killed(other)
        await last.start(Recorder())
        [channel] = await last.channels(["a"])
        assert [entry.event.uuid for entry in channel.history.entries] == ["m1", "m2", "m3"]
        await last.close()

    asyncio.run(life())


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    path.rename(path.with_name("moved.db"))
    path.touch()


def damaged(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (removed, "was replaced or removed while the server has it open"),
        (replaced, "was replaced or removed while the server has it open"),
        (damaged, "it is damaged"),
    ],
)
def test_a_file_that_nobody_can_open_again_stays_open(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    """The move is refused while this process has the file: it would have nothing to go on with."""
    path = tmp_path / "state.db"

    async def life() -> None:
        engine = sqlite_engine(path, Setup(), 1)
        await engine.start(Recorder())
        await engine.connect(ANN, EMPTY)
        await engine.join(ANN, {"a": {}})
        spoil(path)
        with pytest.raises(CannotHandOver, match=reason):
            [record async for record in engine.copy()]
        await engine.proceed()
        # Nothing is written where no start would find it.
        with nullcontext() if spoil is damaged else pytest.raises(Unavailable):
            await engine.publish([message("m1")])
        await killed(engine)

    asyncio.run(life())


async def moved(engine: SqliteEngine, other: SqliteEngine) -> None:
    """Start another engine with the state of one that has the connection of ann in a channel."""
    everything = ReadRange.of(0)
    build(
        other,
        [record async for record in engine.copy()],
        (),
        [RestoredConnection(ANN, {"a": everything}, everything, (0,))],
    )
    build(other, [record async for record in engine.hand_over()], (), ())
    other.take_over()
    await other.start(Recorder())
    await engine.close()
