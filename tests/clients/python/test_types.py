"""The Python client's types, as a strict type checker of an application sees them."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_program.py")
ROOT = Path(__file__).parents[3]
WRONG = """
import asyncio
from channelstream_client import AsyncChannelstream

async def wrong(server: AsyncChannelstream) -> None:
    number: int = await server.connect("ann")
    await server.connect("ann", rooms=["news"])
"""


@pytest.mark.slow
def test_typed_program_is_accepted(tmp_path: Path) -> None:
    """Valid programs of applications pass mypy in its strict mode, and invalid lines do not."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    # In the checkout, for its configuration (strict) and the cache that `make check` has just filled.
    command = [sys.executable, "-m", "mypy", str(PROGRAM), str(wrong)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line.rpartition("[")[2] for line in checked.stdout.splitlines() if ": error:" in line]
    assert errors == ["assignment]", "call-arg]"], checked.stdout + checked.stderr
