"""Plays one seed and, where it fails, says how to replay it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.simulation.failure import Failure
from tests.simulation.playing import simulate
from tests.simulation.script import WEIGHTS, Step, make_script
from tests.simulation.shrinking import shrink
from tests.simulation.simulation import CLIENTS, Simulation


@dataclass(frozen=True)
class Play:
    """What seeds are played as.

    Attributes:
        option: of the command that replays a seed.
        weights: how often each kind of step comes.
    """

    option: str = ""
    simulation: type[Simulation] = Simulation
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)


CONNECTED = Play()
"""Clients whose connections the application registers."""


def run_seed(seed: int, play: Play = CONNECTED) -> int:
    """Play a seed and return how many events were received.

    Raises:
        AssertionError: it fails; the message has the shortest script found and the command that replays the seed.
    """
    script = make_script(seed, CLIENTS, weights=play.weights)
    try:
        return simulate(seed, script, play.simulation).delivered
    except Failure as failure:
        promise = _promise(failure)
        short = shrink(script, lambda steps: _promise(_failure(seed, steps, play)) == promise)
        report = _report(seed, play, failure, short, _failure(seed, short, play) or failure)
    raise AssertionError(report)


def _failure(seed: int, script: list[Step], play: Play) -> Failure | None:
    try:
        simulate(seed, script, play.simulation)
    except Failure as failure:
        return failure
    return None


def _promise(failure: Failure | None) -> str:
    """Return which promise was broken: a shorter script must break the same."""
    return str(failure).split(":")[0]


def _report(seed: int, play: Play, failure: Failure, short: list[Step], again: Failure) -> str:
    first, last = (" ".join([str(each), *getattr(each, "__notes__", ())]) for each in (failure, again))
    steps = "\n".join(f"  {step}" for step in short)
    more = f' ARGS="{play.option}"' if play.option else ""
    return (
        f"seed {seed}: {first}\nshrunk to {len(short)} steps: {last}\n{steps}\n"
        f"replay: make simulate SEED={seed}{more}   "
        f"or: .venv/bin/python -m tests.simulation {play.option} {seed}"
    )
