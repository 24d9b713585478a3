"""The answers of errors that docs/api.md shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunningServer

API = (Path(__file__).parents[2] / "docs/api.md").read_text()
SHOWN = [
    shown for shown in map(json.loads, re.findall(r"```json\n(.*?)```", API, re.DOTALL)) if "error" in shown
]


@pytest.mark.parametrize(
    ("path", "body", "shown"),
    [("/messages", {}, SHOWN[0]), ("/connect", {"channels": [""]}, SHOWN[1])],
)
def test_an_error_is_as_shown(one_node: RunningServer, path: str, body: Any, shown: Any) -> None:
    """Word by word."""
    assert one_node.request("POST", path, body).json() == shown
