"""Scripts: lists of small steps made from a seed, which stay valid when any of them are left out."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

STEPS = 250
"""Steps of one script."""

WEIGHTS = {
    "open": 14,
    "publish": 30,
    "amend": 10,
    "subscribe": 6,
    "unsubscribe": 4,
    "again": 3,
    "cut": 8,
    "stall": 7,
    "trickle": 5,
    "flow": 8,
    "leave": 2,
    "exodus": 1.5,
    "state": 3,
    "configure": 4,
    "pass": 4,
    "jump": 1,
    "restart": 0.5,
    "settle": 2,
}
"""How often each kind of step comes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens.

    Attributes:
        kind: a key of `WEIGHTS`.
        who: which client, where it is about one.
        what: the seed of the step's own choices.
        turns: turns of the loop until the next step.
    """

    kind: str
    who: int
    what: int
    locks: int


CROWDED = {
    "open": 14,
    "exodus": 6,
    "again": 2,
    "subscribe": 2,
    "flow": 4,
    "publish": 1,
    "pass": 1,
    "settle": 1,
}
"""The same where many come and go at once."""


def make_script(
    seed: int, clients: int, steps: int = STEPS, weights: Mapping[str, float] = WEIGHTS
) -> list[Step]:
    """Return the script of a seed."""
    chance = random.Random(seed)
    kinds = chance.choices(list(weights), list(weights.values()), k=steps)
    return [
        Step(kind, chance.randrange(clients), chance.randrange(1_000_000), chance.choice((0, 0, 1, 2, 3, 8)))
        for kind in kinds
    ]
