"""The seeds a test run draws: other ones at every commit, and always the same ones at one commit."""

import random
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def drawn_seeds(count: int) -> list[int]:
    """Return so many seeds; where there is no repository, as in a source distribution, those of none."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        commit = asked.stdout
    except OSError:
        commit = ""
    return random.Random(commit).sample(range(10**9), count)
