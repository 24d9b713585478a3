"""A client of Pusher whose channel cannot be read after it has joined."""

import asyncio

import pytest
from tests.engines.conformance import Setup
from tests.engines.test_memory import memory_engine

from channelstream.apps.app import App
from channelstream.clock import RandomIds, SystemClock
from channelstream.core.channel import Channel
from channelstream.core.hub import Hub
from channelstream.engines.base import MembersAt
from channelstream.errors import Unavailable
from channelstream.service import Memberships, Node, NodeLimits, Service
from channelstream.transports.member_actions import MemberActions
from channelstream.wire.client_commands import Join
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.pusher import PUSHER


@pytest.mark.parametrize("join", [Join("presence-a", "a", "ann"), Join("cache-a", "a", last_s=60.0)])
def test_a_client_that_is_answered_so_is_not_in_the_channel(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a link with Redis that breaks fails reads at once, and repeats joins."""
    engine = memory_engine(Setup())
    channels = engine.channels

    async def members_at(channel: str) -> MembersAt:
        raise Unavailable("later")

    async def no_channels(*args: object) -> list[Channel]:
        raise Unavailable("later")

    async def scenario() -> None:
        node = Node(
            engine,
            Hub(PROTOCOLS.formats, lambda: None),
            SystemClock(),
            RandomIds().new,
            NodeLimits(),
        )
        await node.start()
        service = Service(App(), node)
        connection = await Memberships(service).open("c1", "1.2", PUSHER)
        monkeypatch.setattr(engine, "members_at", members_at)
        monkeypatch.setattr(engine, "channels", no_channels)
        with pytest.raises(Unavailable):
            await MemberActions(service, connection).carry_out(join)
        monkeypatch.setattr(engine, "channels", channels)
        assert not connection.readable
        assert [each.connections for each in await service.channels([join.channel])] in ([], [0])
        await node.close()

    asyncio.run(scenario())
