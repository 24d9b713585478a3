"""Processes whose wall clock is wrong."""

import sys
from pathlib import Path

SHIFTED = "import time; real = time.time; time.time = lambda: real() + {seconds}\n"


def shifted_clock(directory: Path, hours: int) -> dict[str, str]:
    """Return the environment of a Python process whose clock is so many hours ahead; the directory is to be its own."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(SHIFTED.format(seconds=3600 * hours))
    return {"PYTHONPATH": ":".join([str(directory), *filter(None, sys.path)])}
