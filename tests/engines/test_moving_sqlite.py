"""The SQLite engine moves to another process, by its file: the shared suite."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.conformance.lab import EMPTY, Lab, Recorder, Setup, message
from tests.engines.conformance.moving import *  # noqa: F403
from tests.engines.conformance.moving import Move
from tests.engines.conformance.restarts import ANN
from tests.engines.moves import Processes
from tests.engines.test_sqlite import sqlite_engine
from tests.engines.test_sqlite_connections import flush, killed


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    numbers = iter(range(1_000_000, 9_000_000, 1_000_000))
    with asyncio.Runner() as runner:
        processes = Processes(
            runner, lambda setup: sqlite_engine(tmp_path / "state.db", setup, next(numbers)), flush
        )
        yield processes
        processes.end()


@pytest.fixture
def begun(processes: Processes) -> Lab:
    return processes.lab


@pytest.fixture
def move(processes: Processes) -> Move:
    return processes.move


@pytest.fixture
def stay(processes: Processes) -> Move:
    return processes.stay


def test_what_the_other_process_has_written_does_not_count(tmp_path: Path) -> None:
    """It had the file for a moment, and has ended: its events are not in the log of the process that goes on."""
    path = tmp_path / "state.db"

    async def life() -> None:
        engine, other, last = (sqlite_engine(path, Setup(), number * 1_000_000) for number in (1, 2, 3))
        await engine.start(Recorder())
        await engine.connect(ANN, EMPTY)
        await engine.join(ANN, {"a": {}})
        await engine.publish([message("m1")])
        state = [record async for record in engine.hand_over()]
        other.take_over(state, ())
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
