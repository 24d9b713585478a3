"""The time as engines keep it: for timestamps, and for ages."""

from typing import NamedTuple


class Moment(NamedTuple):
    """A moment by both clocks.

    Attributes:
        wall_s: epoch seconds, for timestamps; this clock may jump.
        steady_s: seconds of the engine's clock, which never jumps, for ages.
    """

    wall_s: float
    steady_s: float
