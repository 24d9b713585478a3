"""What the tests of the SQLite engine share."""

from pathlib import Path

import pytest
from tests.engines.sqlite_runs import Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "state.db")
