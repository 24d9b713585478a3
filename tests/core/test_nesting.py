"""The depth of JSON is found without a step for each bracket."""

import json
import random
from typing import Any

import pytest

from channelstream.core.nesting import nests_deeper


def nested(depth: int, chance: random.Random) -> bytes:
    """A value of arrays and objects in each other, with shallow ones and brackets in texts beside them."""
    inside = b"1"
    for _ in range(depth):
        beside = chance.choice((b"", b"[],", b'[{"a":[]}],', b'"[[{",', b'"\\"[",'))
        inside = b"[%b%b]" % (beside, inside) if beside or chance.random() < 0.5 else b'{"a":%b}' % inside
    return inside


def depth_of(value: Any) -> int:
    """Return how deep arrays and objects are in each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("most", [8, 200, 250])
@pytest.mark.parametrize("seed", range(7))
def test_a_text_nests_so_deep_and_no_deeper(seed: int, most: int) -> None:
    """For every place of its deepest value, with other values beside it."""
    chance = random.Random(seed)
    for depth in range(most - 6, most + 2):
        shallow = min(12, most)
        values = [nested(chance.randrange(1, shallow), chance) for _ in range(100)] + [nested(depth, chance)]
        chance.shuffle(values)
        text = b"[%b]" % b",".join(values)
        assert nests_deeper(text, most) is (depth_of(json.loads(text)) > most)
