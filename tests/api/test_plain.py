"""The depth of a body is found without a step for each bracket."""

import json
import random
from typing import Any

import pytest

from channelstream.api.plain import MAX_NESTING, refuse_deep
from channelstream.errors import Malformed


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
@pytest.mark.parametrize("seed", range(20))
def test_a_body_nests_so_deep_and_no_deeper(seed: int) -> None:
    """For every place of its deepest value, with other values beside it."""
    chance = random.Random(seed)
    for depth in range(MAX_NESTING - 6, MAX_NESTING + 2):
        values = [nested(chance.randrange(1, 12), chance) for _ in range(100)] + [nested(depth, chance)]
        chance.shuffle(values)
        body = b"[%b]" % b",".join(values)
        if depth_of(json.loads(body)) > MAX_NESTING:
            with pytest.raises(Malformed):
                refuse_deep(body)
        else:
            refuse_deep(body)
