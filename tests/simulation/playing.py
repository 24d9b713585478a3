"""Plays a script in a loop with virtual time, and looks for what the server logged meanwhile."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.simulation.failure import Failure, demand
from tests.simulation.loop import MeasuredLoop, kill_others
from tests.simulation.script import Step
from tests.simulation.simulation import Simulation
from tests.simulation.world import Bounds

from channelstream import pacing, slices
from channelstream.core import batch, rounds
from channelstream.transports import attachment, catch_up, reading

REPLAYS = 2
"""Further runs in which a step that took too long must do so again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one run.

    Attributes:
        delivered: how many events the clients have handled.
        written: a digest of all that the server has written, to whom and in which order.
    """

    delivered: int
    written: str


@contextmanager
def _sizes(bounds: Bounds) -> Iterator[None]:
    """Give catching up and the hub sizes small enough to be reached."""
    sizes = (
        (reading, "CHUNK", bounds.chunk),
        (catch_up, "PIECE_BYTES", bounds.piece_bytes),
        (attachment, "BUFFERED_ENTRIES", bounds.held),
        (rounds, "SLICE", bounds.slice),
        (batch, "BATCH_SIZE", bounds.batch_size),
        (slices, "TURN_S", bounds.turn_s),
        (pacing, "TURN_S", bounds.turn_s),
        (pacing, "SHORT_TURN_S", min(bounds.turn_s, pacing.SHORT_TURN_S)),
        (slices, "MANY", 1 if bounds.turn_s < 0 else slices.MANY),
    )
    with ExitStack() as undo:
        for module, name, size in sizes:
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, size)
        yield


def simulate(seed: int, script: list[Step], kind: type[Simulation] = Simulation) -> Outcome:
    """Play a script in the world of a seed.

    Args:
        kind: whose steps the script has.

    Raises:
        Failure: a promise was broken.
    """
    outcome, slow = _play(seed, script, kind)
    for _ in range(REPLAYS):
        # The time that a hypervisor takes from the machine counts as CPU time too. It comes by chance: a step that
        # computes too long does so in every run.
        if slow:
            again = _play(seed, script, kind)[1]
            slow = {number: what for number, what in again.items() if number in slow}
    demand(not slow, "a step of the loop computes too long:", *slow.values())
    return outcome


def _play(seed: int, script: list[Step], kind: type[Simulation]) -> tuple[Outcome, dict[int, str]]:
    """Play a script and return its outcome, and the steps of the loop that took too long."""
    loop = MeasuredLoop()
    simulation = kind(seed)
    try:
        with _sizes(simulation.bounds), _no_traceback():
            loop.run_until_complete(simulation.run(script, loop))
    finally:
        _clear(loop)
    checker = simulation.checker
    return Outcome(checker.events, checker.written.hexdigest()), loop.steps.slow


class _Tracebacks(logging.Handler):
    """The exceptions that the server logs and survives."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


@contextmanager
def _no_traceback() -> Iterator[None]:
    """An exception that the server survives may break a promise too: it fails the run.

    Raises:
        Failure: an exception was logged.
    """
    tracebacks, logger = _Tracebacks(), logging.getLogger("channelstream")
    logger.addHandler(tracebacks)
    try:
        yield
    finally:
        logger.removeHandler(tracebacks)
        for error in tracebacks.found[:1]:
            raise error if isinstance(error, Failure) else Failure(f"logged: {error!r}") from error


def _clear(loop: MeasuredLoop) -> None:
    """Remove everything of this run."""
    loop.run_until_complete(kill_others())
    loop.close()
