"""Lists of events are passed to the engine in parts, each for one turn of the event loop."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from channelstream.config import Settings
from channelstream.core.events import Event, Message, MessageDeleted
from channelstream.core.log import Accepted
from channelstream.server import build
from channelstream.service import Node


def private(users: int) -> Callable[[str], Event]:
    names = frozenset(f"user {number}" for number in range(users))
    return lambda uuid: Message(uuid=uuid, channel=None, only=names, user="a", payload=b"1", timestamp="")


def message(uuid: str) -> Event:
    return Message(uuid=uuid, channel="a", user="a", payload=b"1", timestamp="")


def deletion(uuid: str) -> Event:
    return MessageDeleted(uuid=uuid, channel="a")


async def sizes(node: Node, events: Sequence[Event]) -> list[int]:
    """Send events, and return how many the engine is passed at a time."""
    found: list[int] = []
    publish = node._engine.publish

    async def counted(part: Sequence[Event]) -> list[Accepted]:
        found.append(len(part))
        return await publish(part)

    node._engine.publish = counted  # type: ignore[method-assign]
    accepted = await node._publishing.publish(events)
    assert [each.event for each in accepted] == list(events)
    return found


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (message, [100]),
        (deletion, [50, 50]),
        (private(1), [100]),
        (private(100), [4] * 25),
        (private(1000), [1] * 100),
    ],
)
def test_a_part_is_as_long_as_its_events_are_cheap(make: Callable[[str], Event], expected: list[int]) -> None:
    """A deletion searches logs, and each recipient of a private message has one of its own."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        assert await sizes(node, [make(f"m{number}") for number in range(100)]) == expected

    asyncio.run(life())
