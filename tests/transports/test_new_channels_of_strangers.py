"""How many public channels of Pusher the clients of an address bring into being."""

import asyncio
from uuid import uuid4

import pytest
from tests.transports.test_seat_streams import node_in_memory

from channelstream.apps.app import App
from channelstream.close_codes import CloseCode
from channelstream.core.events import Message
from channelstream.errors import TooManyRequests
from channelstream.service import Memberships, Service
from channelstream.service import service as service_module
from channelstream.service.new_channels import OF_ADDRESS
from channelstream.transports.member_actions import MemberActions
from channelstream.wire.client_commands import Join, Leave
from channelstream.wire.pusher import PUSHER


@pytest.mark.replaces_compiled
def test_the_lines_of_an_address_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a user of its own, and a stranger opens as many as it likes; what the application has signed is free."""
    monkeypatch.setattr(service_module, "OF_ADDRESS", OF_ADDRESS._replace(at_once=3))

    async def scenario() -> None:
        node = node_in_memory()
        await node.start()
        service = Service(App(), node)

        async def join(address: str, channel: str, *, is_granted: bool = False) -> None:
            connection = await Memberships(service).open(uuid4().hex, uuid4().hex, PUSHER)
            connection.opened_by(address, "", 0.0)
            command = Join(channel, channel, is_granted=is_granted)
            await MemberActions(service, connection).carry_out(command)

        for number in range(3):
            await join("192.0.2.1", f"room {number}")
        with pytest.raises(
            TooManyRequests, match="An address may bring 3 channels into being, and then 10 a"
        ):
            await join("192.0.2.1", "room 3")
        assert service.refused()["new_channels"] == 1
        await join("192.0.2.1", "room 0")
        await join("192.0.2.1", "private-room", is_granted=True)
        await join("192.0.2.2", "room 3")
        await node.close()

    asyncio.run(scenario())


def test_channels_of_strangers_go_with_their_lines() -> None:
    """Whether they leave or their line ends; not while another line is in them, nor those that had an event."""

    async def scenario() -> None:
        node = node_in_memory()
        await node.start()
        service = Service(App(), node)
        lines = [await Memberships(service).open(uuid4().hex, uuid4().hex, PUSHER) for _ in range(2)]
        for line, names in zip(lines, (("left", "ended", "shared", "used"), ("shared",)), strict=True):
            for name in names:
                await MemberActions(service, line).carry_out(Join(name, name, is_granted=False))
        event = Message(uuid=uuid4().hex, channel="used", user="app", payload=b'""', timestamp="t")
        await service.publish([event])
        await MemberActions(service, lines[0]).carry_out(Leave("left", "left"))
        await node.end(lines[0].id, CloseCode.NORMAL, "gone")
        await node.collect()
        assert {each.name for each in await service.channels(None)} == {"shared", "used"}
        await node.close()

    asyncio.run(scenario())
