"""Plays one seed and says, where it fails, how to see that again."""

from tests.simulation.failure import Failure
from tests.simulation.script import Step, make_script
from tests.simulation.shrinking import shrink
from tests.simulation.simulation import CLIENTS, simulate


def run_seed(seed: int) -> int:
    """Play a seed and return how many events were heard.

    Raises:
        AssertionError: it fails; the message has the shortest script found and the command that replays the seed.
    """
    script = make_script(seed, CLIENTS)
    failure = _failure(seed, script)
    if failure is None:
        return simulate(seed, script)
    short = shrink(script, lambda steps: _failure(seed, steps) is not None)
    raise AssertionError(_report(seed, failure, short, _failure(seed, short) or failure))


def _failure(seed: int, script: list[Step]) -> Failure | None:
    try:
        simulate(seed, script)
    except Failure as failure:
        return failure
    return None


def _report(seed: int, failure: Failure, short: list[Step], again: Failure) -> str:
    first, last = (" ".join([str(each), *getattr(each, "__notes__", ())]) for each in (failure, again))
    steps = "\n".join(f"  {step}" for step in short)
    return (
        f"seed {seed}: {first}\nshrunk to {len(short)} steps: {last}\n{steps}\n"
        f"replay: make simulate SEED={seed}   or: .venv/bin/python -m tests.simulation {seed}"
    )
