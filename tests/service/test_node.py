"""What a node counts of the messages that are published at it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.engines.conformance.lab import message
from tests.service.test_local import timed_node

from channelstream.core.events import Event, Message
from channelstream.core.user import UserUpdate
from channelstream.service import Node
from channelstream.wire.channelstream import V07

Publish = Callable[[Node, Message], Awaitable[object]]


async def at_once(node: Node, event: Message) -> None:
    assert node.publish_at_once(event) is not None


async def later(node: Node, event: Message) -> None:
    await node.publish([event])


@pytest.mark.parametrize("publish", [at_once, later])
def test_a_message_counts_once_and_in_its_channel(publish: Publish) -> None:
    """A private one in none, and a duplicate not at all: that is announced."""
    events = [message("m1", "a"), message("m1", "a"), message("m2", None, only=frozenset(("ann",)))]

    async def life() -> None:
        duplicates = list[Event]()
        node, _ = await timed_node()
        node.signals.duplicate.connect(duplicates.append)
        await node.connect("c", "ann", V07, {"a": {"store_history": True}}, UserUpdate({}, {}))
        for event in events:
            await publish(node, event)
        assert (node.published, node.busiest) == (2, {"a": 1})
        assert [event.uuid for event in duplicates] == ["m1"]

    asyncio.run(life())
