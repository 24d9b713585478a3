"""Streams are opened for clients of the protocols that this version speaks."""

import asyncio

import pytest

from channelstream.config import Settings
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.user import UserUpdate
from channelstream.errors import Unauthorized
from channelstream.server import build
from channelstream.transports.admission import Admission
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing


def test_a_connection_of_a_later_version_has_no_stream_here() -> None:
    """A node of that version may have registered it in a shared engine; here it is as unknown as any other."""

    async def life() -> None:
        server = build(Settings(secret="x", admin_secret="y"))
        await server.node.start()
        later = ClientProtocol("v99", PresenceAudience.IF_ANNOUNCED)
        await server.node.connect("new", "ann", later, {}, UserUpdate({}, {}))
        await server.node.connect("own", "ann", V07, {}, UserUpdate({}, {}))
        admission = Admission(server.streams, server.streams.services.default)
        assert admission.connection({"conn_id": "own"}, Framing.SSE) is server.node.connection("own")
        with pytest.raises(Unauthorized):
            admission.connection({"conn_id": "new"}, Framing.SSE)
        with pytest.raises(Unauthorized):
            await admission.take_over({"conn_id": "new"}, Framing.SSE)

    asyncio.run(life())
