"""What a node counts of the messages that are published at it."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
from tests.engines.conformance import MovedClock, Setup
from tests.engines.conformance.lab import message
from tests.engines.test_memory import memory_engine

from channelstream.core.events import Event, Message
from channelstream.core.hub import Hub
from channelstream.core.user import UserUpdate
from channelstream.service import Node
from channelstream.service.limits import NodeLimits
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

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
        ids, duplicates = count(), list[Event]()
        hub = Hub(PROTOCOLS.formats, lambda: None)
        node = Node(
            memory_engine(Setup(MovedClock())), hub, MovedClock(), lambda: f"id-{next(ids)}", NodeLimits()
        )
        node.signals.duplicate.connect(duplicates.append)
        await node.start()
        await node.connect("c", "ann", V07, {"a": {"store_history": True}}, UserUpdate({}, {}))
        for event in events:
            await publish(node, event)
        assert (node.published, node.busiest) == (2, {"a": 1})
        assert [event.uuid for event in duplicates] == ["m1"]

    asyncio.run(life())
