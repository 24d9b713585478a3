"""The members of a channel on all nodes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tests.turns import turns_of_others

from channelstream.core.connection import Connection
from channelstream.service import Node
from channelstream.service.node import MEMBERS_SLICE
from channelstream.wire.channelstream import V07


def node_with(count: int) -> Any:
    """What `members` reads of a node with so many connections; another node holds one, and believes to hold one of these."""

    async def members(_channel: str) -> dict[str, str]:
        return {"there": "bob", "0": "old"}

    here = [Connection(str(number), "ann", V07, (0,), None) for number in range(count)]
    return SimpleNamespace(
        hub=SimpleNamespace(channels={"a": here}), _cluster=SimpleNamespace(members=members)
    )


@pytest.mark.replaces_compiled
@pytest.mark.parametrize(("count", "turns"), [(0, 0), (MEMBERS_SLICE, 0), (2 * MEMBERS_SLICE + 1, 2)])
def test_members_of_all_nodes_are_listed_in_slices(count: int, turns: int) -> None:
    """Each with its user; a node's own list decides about its connections; of many, other tasks run between slices."""
    found, seen = asyncio.run(turns_of_others(Node.members(node_with(count), "a")))
    assert found == {"there": "bob", "0": "ann" if count else "old"} | {str(n): "ann" for n in range(count)}
    assert seen == turns
