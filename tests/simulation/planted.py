"""Looks for a fault that a test has planted."""

import re

from tests.simulation.failure import Failure
from tests.simulation.playing import simulate
from tests.simulation.report import CONNECTED, Play
from tests.simulation.script import make_script
from tests.simulation.simulation import CLIENTS

TRIES = 90
"""Seeds played at most until the fault is found: four of them or more find each."""


def first_failure(promise: str, play: Play = CONNECTED) -> str:
    """Return how the first seed fails that breaks this promise; nothing where none of the first seeds does."""
    for seed in range(TRIES):
        try:
            simulate(seed, make_script(seed, CLIENTS, weights=play.weights), play.simulation)
        except Failure as failure:
            if re.search(promise, str(failure)):
                return f"{seed}: {failure}"
    return ""
