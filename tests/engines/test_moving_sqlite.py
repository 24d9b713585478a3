"""The SQLite engine moves to another process, by its file: the shared suite."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.conformance.lab import Lab
from tests.engines.conformance.moving import *  # noqa: F403
from tests.engines.conformance.moving import Move
from tests.engines.moves import Processes
from tests.engines.test_sqlite import sqlite_engine
from tests.engines.test_sqlite_connections import flush


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
