"""How many public channels of Pusher the clients of an address bring into being."""

import asyncio
from uuid import uuid4

import pytest
from tests.transports.test_seat_streams import node_in_memory

from channelstream.apps.app import App
from channelstream.errors import TooManyRequests
from channelstream.service import Memberships, Service
from channelstream.service import service as service_module
from channelstream.transports.member_actions import MemberActions
from channelstream.wire.client_commands import Join
from channelstream.wire.pusher import PUSHER


def test_the_lines_of_an_address_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a user of its own, and a stranger opens as many as it likes; what the application has signed is free."""
    monkeypatch.setattr(service_module, "OF_ADDRESS_AT_ONCE", 3)

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
        with pytest.raises(TooManyRequests, match="An address may bring 3 channels into being"):
            await join("192.0.2.1", "room 3")
        assert service.refused()["new_channels"] == 1
        await join("192.0.2.1", "room 0")
        await join("192.0.2.1", "private-room", is_granted=True)
        await join("192.0.2.2", "room 3")
        await node.close()

    asyncio.run(scenario())
