"""What the commands of a client bring it, on a node in this process."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from channelstream import slices
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.changes import KEPT
from channelstream.core.events import Event, Message, MessageDeleted
from channelstream.core.log import Replay
from channelstream.core.position import Position
from channelstream.core.user import UserUpdate
from channelstream.server import build
from channelstream.service import Node
from channelstream.service.service import Service
from channelstream.transports.client_actions import MISSED_BYTES, ClientActions
from channelstream.transports.reading import CHUNK
from channelstream.transports.tokens import NO_TOKENS
from channelstream.wire.client_commands import Subscribe, Subscribed
from channelstream.wire.commanding import COMMANDING, missed_items
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})


async def join(service: Service, name: str, since: int) -> Subscribed:
    """Have a user with a new connection join the room, which it knows up to an offset."""
    node = service.node
    await node.connect("c", name, COMMANDING, {}, EMPTY)
    client = Client(service.app, name, node.clock.wall() + 60, Grants(subscribe=Patterns(("room",))))
    actions = ClientActions(service, node.hub.connections["c"], client, NO_TOKENS, lambda _: None)
    position = str(Position(node.position.epochs, (since,)))
    outcome = await actions.outcome(Subscribe(("room",), since={"room": position}), sends=True)
    assert isinstance(outcome, Subscribed)
    return outcome


async def missed_by(name: str, since: int) -> tuple[int, list[tuple[str, str]]]:
    """Have two users leave a channel together, and another one join it as a user of this name; return what that one misses.

    Args:
        since: how many of them are known to have left.

    Returns:
        The offset of its stream, and the user and the offset of each item.
    """
    parts = build(Settings(secret="x", admin_secret="y"))
    node, service = parts.node, parts.streams.services.default
    await node.start()
    for user in ("bob", "eve"):
        await node.connect(user, user, COMMANDING, {"room": {"notify_presence": True}}, EMPTY)
    (before,) = node.position.offsets
    for user in ("bob", "eve"):
        node.local.departures.end_soon(node.hub.connections[user], CloseCode.NORMAL, "left")
    await node.local.departures.disconnects.drained()
    await node.connect("later", "joe", COMMANDING, {"other": {"notify_presence": True}}, EMPTY)
    (offset,) = node.position.offsets
    outcome = await join(service, name, before + since)
    assert outcome.recovered == ("room",)
    listed = missed_items(outcome, PROTOCOLS.session_of(COMMANDING, Framing.POLL).format)
    items = json.loads(b"[%b]" % b",".join(listed))
    return offset, [(each["user"], int(each["position"].rpartition("-")[2])) for each in items]


@pytest.mark.parametrize(
    ("name", "since", "left"),
    [("ann", 0, ["bob", "eve"]), ("ann", 1, ["eve"]), ("eve", 0, ["bob"]), ("eve", 1, [])],
)
def test_users_who_left_together_are_missed_at_the_position_of_the_stream(
    name: str, since: int, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of their items, but a user's own: the offset of each is older than what the client has received."""
    monkeypatch.setattr(slices, "TURN_S", 3600.0)
    offset, items = asyncio.run(missed_by(name, since))
    assert items == [(user, offset) for user in left]


def message(number: int, payload: bytes = b"1") -> Message:
    return Message(uuid=str(number), channel="room", user="bob", payload=payload, timestamp="t")


async def joined_after(events: list[Event], meanwhile: Callable[[Node], Awaitable[None]]) -> Subscribed:
    """Have a user join the room, of which it has no event; something happens while the log is read."""
    parts = build(Settings(secret="x", admin_secret="y"))
    node, service = parts.node, parts.streams.services.default
    await node.start()
    await node.connect("bob", "bob", COMMANDING, {"room": {}}, EMPTY)
    (before,) = node.position.offsets
    await node.publish(events)
    replay = node.reads.replay

    async def slow_replay(*args: Any) -> Replay:
        found = await replay(*args)
        await meanwhile(node)
        return found

    node.reads.replay = slow_replay
    return await join(service, "ann", before)


async def nothing(node: Node) -> None:
    """Happens while the log is read."""


async def many_changes(node: Node) -> None:
    """More than are remembered, in another channel."""
    others = [MessageDeleted(uuid=str(number), channel="other") for number in range(KEPT + 1)]
    await node.publish(others[1:])
    node.hub.flush()
    await node.publish(others[:1])


HALF = b"1" * (MISSED_BYTES // 4)  # An event counts for twice its payload, and a fixed part.


@pytest.mark.parametrize(
    ("events", "meanwhile", "missed"),
    [
        ([message(number) for number in range(CHUNK)], nothing, CHUNK),
        ([message(number) for number in range(CHUNK + 1)], nothing, None),
        ([message(1, HALF)], nothing, 1),
        ([message(1, HALF), message(2, HALF)], nothing, None),
        ([message(1)], many_changes, None),
    ],
    ids=["one read", "more than one read", "not too long", "too long", "not known in its current form"],
)
def test_a_channel_whose_missed_events_cannot_all_be_answered_is_lost(
    events: list[Event], meanwhile: Callable[[Node], Awaitable[None]], missed: int | None
) -> None:
    """None of them is sent then: the client loads the history."""
    outcome = asyncio.run(joined_after(events, meanwhile))
    recovered, lost = ((), ("room",)) if missed is None else (("room",), ())
    assert (outcome.recovered, outcome.lost) == (recovered, lost)
    assert len(outcome.missed) == (missed or 0)
