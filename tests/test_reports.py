"""What a worker reports to the first process."""

from typing import Any

import pytest
from tests.reports import is_needed

SHORT = {"when": "setup", "outcome": "passed", "duration": 0.001}


@pytest.mark.parametrize(
    ("message", "report"),
    [
        ("testreport", SHORT | {"when": "call"}),
        ("testreport", SHORT | {"outcome": "failed"}),
        ("testreport", SHORT | {"outcome": "skipped"}),
        ("testreport", SHORT | {"duration": 0.1}),
        ("testreport", SHORT | {"when": "teardown", "cpu_s": 0.2}),
        ("testreport", SHORT | {"when": "teardown", "slow_turns": ["one node: 1 slow"]}),
        ("logfinish", {}),
        ("workerfinished", {}),
    ],
)
def test_what_is_shown_is_sent(message: str, report: dict[str, Any]) -> None:
    """The outcome of every test, all that fails or takes long, and the notes for the tables at the end."""
    assert is_needed(message, {"data": report})


@pytest.mark.parametrize(
    ("message", "report"),
    [("testreport", SHORT), ("testreport", SHORT | {"when": "teardown", "slow_turns": []}), ("logstart", {})],
)
def test_nothing_else_is_sent(message: str, report: dict[str, Any]) -> None:
    """Neither that a test begins, nor that it was set up and torn down without a word."""
    assert not is_needed(message, {"data": report})
