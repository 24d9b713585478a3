"""The time as engines keep it: for timestamps, and for ages."""

from msgspec import Struct


class Moment(Struct, frozen=True):
    """A moment by both clocks. It is a Struct since each change of a user or a channel has one, and it is made in C.

    Attributes:
        wall_s: epoch seconds, for timestamps; this clock may jump.
        steady_s: seconds of the engine's clock, which never jumps, for ages.
    """

    wall_s: float
    steady_s: float
