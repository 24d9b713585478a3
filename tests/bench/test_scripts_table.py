"""The table of scripts in docs/scaling.md has the rows that `make bench-engines` measures."""

import ast
import re
from pathlib import Path

from channelstream.bench.engines import scripts

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
HEAD = "| | scripts | pages | CPU of Redis, ms |"


def _pattern(label: ast.expr) -> str:
    """Return an expression that matches a label, whatever its numbers are."""
    parts = label.values if isinstance(label, ast.JoinedStr) else [label]
    return "".join(re.escape(part.value) if isinstance(part, ast.Constant) else "[0-9.,]+" for part in parts)  # type: ignore[arg-type]


def measured() -> set[str]:
    """Return a pattern for each row that is measured."""
    assert scripts.__file__ is not None
    calls = [
        each for each in ast.walk(ast.parse(Path(scripts.__file__).read_text())) if isinstance(each, ast.Call)
    ]
    return {
        _pattern(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "measure"
    }


def documented() -> set[str]:
    """Return the labels of the rows of the page."""
    _, _, table = PAGE.read_text().partition(HEAD)
    rows = table.partition("\n\n")[0].splitlines()[2:]
    return {row.split("|")[1].strip() for row in rows}


def test_the_page_has_the_rows_that_are_measured() -> None:
    """So that a run can be compared with it."""
    patterns, labels = measured(), documented()
    assert len(patterns) > 30
    assert {label for label in labels if not any(re.fullmatch(each, label) for each in patterns)} == set()
    assert {each for each in patterns if not any(re.fullmatch(each, label) for label in labels)} == set()
