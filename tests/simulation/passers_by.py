"""Clients of users to whom nobody comes back, and channels without settings: these are forgotten while others join them.

More comes back here than does to the server: who passes by may name a position as well, and is sent the truth.
"""

from typing import Any

from tests.simulation.report import Play
from tests.simulation.script import WEIGHTS
from tests.simulation.simulation import FRESH, Simulation
from tests.simulation.world import World

CHANNELS: dict[str, dict[str, Any]] = {"a": FRESH["a"], "f": {}, "g": {}, "h": {}, "i": {}}
"""Settings with which each channel begins."""


class PassersByWorld(World):
    """One run of a server that some users pass by."""

    passers_by = frozenset({"u1", "u3"})


class PassersBy(Simulation):
    """One run of a script in which users pass by."""

    fresh = CHANNELS

    def _make_world(self, number: int) -> World:
        return PassersByWorld(number, self.bounds, self.clock, self.chance)


PASSERS_BY = Play(
    "--passers-by", PassersBy, WEIGHTS | {"publish": 6, "amend": 1, "configure": 1, "leave": 8, "pass": 12}
)
"""They leave often, and little is published."""
