"""What the commands of a client bring it, on a node in this process."""

import asyncio
import json

import pytest

from channelstream import slices
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.config import Settings
from channelstream.core.user import UserUpdate
from channelstream.errors import CloseCode
from channelstream.server import build
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.tokens import NO_TOKENS
from channelstream.wire.client_commands import Subscribe, Subscribed
from channelstream.wire.commanding import COMMANDING, missed_items
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})


def test_users_who_left_together_are_missed_at_the_position_of_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of their items: the offset of its own is older than what the client has received."""
    monkeypatch.setattr(slices, "TURN_S", 3600.0)

    async def life() -> None:
        parts = build(Settings(secret="x", admin_secret="y"))
        node, service = parts.node, parts.streams.services.default
        await node.start()
        for user in ("bob", "eve"):
            await node.connect(user, user, COMMANDING, {"room": {"notify_presence": True}}, EMPTY)
        since = str(node.position)
        for user in ("bob", "eve"):
            node.end_soon(node.hub.connections[user], CloseCode.NORMAL, "left")
        await node._local.departures.disconnects.drained()
        await node.connect("later", "joe", COMMANDING, {"other": {"notify_presence": True}}, EMPTY)
        await node.connect("c", "ann", COMMANDING, {}, EMPTY)
        client = Client(service.app, "ann", node.clock.wall() + 60, Grants(subscribe=Patterns(("room",))))
        position = str(node.position)
        actions = ClientActions(service, node.hub.connections["c"], client, NO_TOKENS, lambda _: None)
        outcome = await actions.outcome(Subscribe(("room",), since={"room": since}), sends=True)
        assert isinstance(outcome, Subscribed)
        assert outcome.recovered == ("room",)
        listed = missed_items(outcome, PROTOCOLS.session_of(COMMANDING, Framing.POLL).format)
        items = json.loads(b"[%b]" % b",".join(listed))
        assert [(each["user"], each["position"]) for each in items] == [("bob", position), ("eve", position)]

    asyncio.run(life())
