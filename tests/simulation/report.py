"""Plays one seed and, where it fails, says how to replay it."""

from tests.simulation.failure import Failure
from tests.simulation.script import Step, make_script
from tests.simulation.shrinking import shrink
from tests.simulation.simulation import CLIENTS, simulate


def run_seed(seed: int) -> int:
    """Play a seed and return how many events were received.

    Raises:
        AssertionError: it fails; the message has the shortest script found and the command that replays the seed.
    """
    script = make_script(seed, CLIENTS)
    try:
        return simulate(seed, script).delivered
    except Failure as failure:
        promise = _promise(failure)
        short = shrink(script, lambda steps: _promise(_failure(seed, steps)) == promise)
        report = _report(seed, failure, short, _failure(seed, short) or failure)
    raise AssertionError(report)


def _failure(seed: int, script: list[Step]) -> Failure | None:
    try:
        simulate(seed, script)
    except Failure as failure:
        return failure
    return None


def _promise(failure: Failure | None) -> str:
    """Return which promise was broken: a shorter script must break the same."""
    return str(failure).split(":")[0]


def _report(seed: int, failure: Failure, short: list[Step], again: Failure) -> str:
    first, last = (" ".join([str(each), *getattr(each, "__notes__", ())]) for each in (failure, again))
    steps = "\n".join(f"  {step}" for step in short)
    return (
        f"seed {seed}: {first}\nshrunk to {len(short)} steps: {last}\n{steps}\n"
        f"replay: make simulate SEED={seed}   or: .venv/bin/python -m tests.simulation {seed}"
    )
