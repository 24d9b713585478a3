"""What several modules of tests of the engines in this process share."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engines.conformance import EMPTY, Recorder, Setup
from tests.engines.many_channels import InProcess, Life
from tests.engines.sqlite_runs import ANN, Runs, sqlite_engine
from tests.engines.test_memory import memory_engine


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "state.db")


@pytest.fixture(params=["memory", "sqlite"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Life], None]:
    """Return what lives with an engine that knows ann."""

    def live(life: Life) -> None:
        async def whole() -> None:
            setup, recorder = Setup(), Recorder()
            engine: InProcess = (
                memory_engine(setup) if request.param == "memory" else sqlite_engine(tmp_path / "a.db", setup)
            )
            await engine.start(recorder)
            await engine.connect(ANN, EMPTY)
            await life(engine, recorder)
            await engine.close()

        asyncio.run(whole())

    return live
