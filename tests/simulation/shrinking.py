"""Shrinks the script of a failure: leaves out every step without which it still fails."""

from collections.abc import Callable

from tests.simulation.script import Step

TRIES = 600
"""Runs spent on one failure at most."""


def shrink(script: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """Return a script that still fails, with pieces taken out, large ones first."""
    tries = TRIES
    size = max(1, len(script) // 2)
    while True:
        start, shorter = 0, False
        while start < len(script) and tries:
            tries -= 1
            rest = script[:start] + script[start + size :]
            if fails(rest):
                script, shorter = rest, True
            else:
                start += size
        if not tries or (size == 1 and not shorter):
            return script
        size = max(1, size // 2)
