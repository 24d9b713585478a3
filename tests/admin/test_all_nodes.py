"""What a page shows of all nodes: the answers that it is made of."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channelstream.admin.all_nodes import AllNodes
from channelstream.engines.cluster import SingleNode
from channelstream.service.remote_calls import RemoteCalls


@pytest.mark.parametrize(
    ("own", "shown"), [([3, 4], [("", [3, 4])]), ([], [("", [])]), ({"of": "another version"}, [])]
)
def test_a_node_answers_with_its_own(own: object, shown: list[tuple[str, list[int]]]) -> None:
    """Also with nothing; an answer of another form than is expected is left out."""

    async def answer() -> object:
        return own

    clock = SimpleNamespace(steady=lambda: 100.0)
    node = cast(Any, SimpleNamespace(clock=clock, remote_calls=RemoteCalls(SingleNode())))
    reading = AllNodes(node, "numbers", list[int], answer, list)
    assert asyncio.run(reading.read()) == shown
