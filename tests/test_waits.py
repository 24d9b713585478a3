"""No test lets real time pass without saying why."""

import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
SLEEP = re.compile(r"\bsleep\((?!0\))")
IMPATIENT = re.compile(r"\bhttpx\.(get|post|put|delete|request|stream)\(")
"""Calls that wait for 5 s, unless they say otherwise."""
REASON = re.compile(r"#.*\b(real|virtual) time: ")


@cache
def lines() -> list[tuple[str, str]]:
    """Return each line of the tests with its place."""
    files = [file for file in sorted(TESTS.rglob("*.py")) if file != Path(__file__)]
    return [
        (f"{file.relative_to(TESTS)}:{number}", line.strip())
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    ]


def found(pattern: re.Pattern[str]) -> list[str]:
    return [f"{place}: {line}" for place, line in lines() if pattern.search(line)]


def sleeps() -> list[str]:
    return [line for line in found(SLEEP) if "def sleep(" not in line]


def test_sleeps_are_found() -> None:
    """The two waits of `tests/waiting.py` are sleeps."""
    assert sum(line.startswith("waiting.py:") for line in sleeps()) == 2


def test_a_sleep_names_its_reason() -> None:
    """A test waits for a condition (`tests/waiting.py`); where real time itself is tested, its line says so."""
    without = [line for line in sleeps() if not REASON.search(line)]
    assert without == [], "wait for a condition, or end the line with '# real time: REASON'"


def test_an_answer_is_waited_for_as_long_as_a_busy_machine_needs() -> None:
    """By the client of all tests (`tests/http_client.py`)."""
    assert found(IMPATIENT) == [], "call http.get, from tests.http_client"
