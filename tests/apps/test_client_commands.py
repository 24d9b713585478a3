"""What clients ask for on their streams is done by the service of their application."""

import asyncio
import json
from typing import Any

from tests.transports.second_protocol import ALL_ENTRANCES, BOTH_TABLES
from tests.waiting import PATIENCE_S
from websockets.asyncio.client import connect

from channelstream.apps.app import App, Apps
from channelstream.config import Settings
from channelstream.core.events import Message
from channelstream.core.policy import Policy
from channelstream.http.connection import HttpConnection
from channelstream.http.router import Router
from channelstream.http.shared import HttpServer, HttpSettings
from channelstream.server import build
from channelstream.service import Services
from channelstream.transports.routes import stream_routes
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams

SHOP = App("shop")


def test_a_command_subscribes_to_a_channel_of_the_client_s_application() -> None:
    """That of the default application with the same name sends it nothing."""

    async def scenario() -> None:
        node = build(Settings(secret="x", admin_secret="y"), BOTH_TABLES).node
        await node.start()
        services = Services(Apps(App(), SHOP), node)
        streams = Streams(services, StreamSettings(), Policy(), BOTH_TABLES)
        router = Router(Policy(), stream_routes(streams, services.of(SHOP), ALL_ENTRANCES))
        http = HttpServer(HttpSettings(), router, lambda: streams.sockets)
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: HttpConnection(http), "127.0.0.1", 0) as listener:
            url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/second/ann"
            async with connect(url, compression=None) as stream:
                await stream.send(json.dumps({"do": "subscribe", "channel": "room", "id": 1}))
                said: list[Any] = [json.loads(await stream.recv()) for _ in range(2)]
                for service, payload in ((services.default, b"1"), (services.of(SHOP), b"2")):
                    await service.publish(
                        [Message(uuid="m", channel="room", user="bob", payload=payload, timestamp="t")]
                    )
                said.append(json.loads(await stream.recv()))
        assert said == [
            {"event": "welcome"},
            {"event": "subscribed", "joined": ["room"], "id": "1"},
            {"event": "message", "channel": "room", "data": 2},
        ]
        await node.close()

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
