"""What the commands of a client bring it, on a node in this process."""

import asyncio
import json

import pytest

from channelstream import slices
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.position import Position
from channelstream.core.user import UserUpdate
from channelstream.server import build
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.tokens import NO_TOKENS
from channelstream.wire.client_commands import Subscribe, Subscribed
from channelstream.wire.commanding import COMMANDING, missed_items
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})


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
    await node.connect("c", name, COMMANDING, {}, EMPTY)
    (offset,) = node.position.offsets
    client = Client(service.app, name, node.clock.wall() + 60, Grants(subscribe=Patterns(("room",))))
    actions = ClientActions(service, node.hub.connections["c"], client, NO_TOKENS, lambda _: None)
    position = str(Position(node.position.epochs, (before + since,)))
    outcome = await actions.outcome(Subscribe(("room",), since={"room": position}), sends=True)
    assert isinstance(outcome, Subscribed)
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
