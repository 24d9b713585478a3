"""The last messages of channels that keep them."""

import asyncio
from itertools import count
from typing import Any

from tests.engines.conformance import MovedClock, Setup
from tests.engines.test_memory import memory_engine

from channelstream.apps.app import App
from channelstream.core.events import Message
from channelstream.core.hub import Hub
from channelstream.core.timestamps import stamp
from channelstream.service import LastMessages, Node, NodeLimits, Service
from channelstream.wire.protocols import PROTOCOLS

ROOM = "room"


def test_a_channel_keeps_its_last_message() -> None:
    """Without members too, for so many seconds; what is not for histories is not kept."""

    async def life() -> None:
        clock, ids = MovedClock(), count()
        node = Node(
            memory_engine(Setup(clock)),
            Hub(PROTOCOLS.formats, lambda: None),
            clock,
            lambda: f"id-{next(ids)}",
            NodeLimits(),
        )
        await node.start()
        service = Service(App(), node)
        last_messages = LastMessages(service)

        def message(uuid: str, channel: str = ROOM, **more: Any) -> Message:
            at = stamp(clock.wall())
            return Message(uuid=uuid, channel=channel, user="", payload=b"1", timestamp=at, **more)

        assert await last_messages.of(ROOM, 60.0) is None
        await service.configure({"long": {"store_history": True, "history_size": 5}})
        await last_messages.keep([ROOM, "long", ROOM])
        assert await last_messages.of(ROOM, 60.0) is None
        await service.publish([message("m1"), message("m2"), message("m3", no_history=True)])
        await service.publish([message("m4", "long"), message("m5", "long")])
        clock.passed_s += 20.0
        await last_messages.keep([ROOM, "long"])
        kept = await last_messages.of(ROOM, 60.0)
        assert kept is not None
        assert (kept.message.uuid, round(kept.left_s)) == ("m2", 40)
        longer = await last_messages.of("long", 60.0)
        assert longer is not None
        assert longer.message.uuid == "m5"
        [channel] = await service.channels(["long"])
        assert (channel.settings.history_size, channel.settings.notify_presence) == (5, False)
        await last_messages.keep([ROOM, "long"], ["long"])
        [channel] = await service.channels(["long"])
        assert (channel.settings.history_size, channel.settings.notify_presence) == (5, True)
        clock.passed_s += 40.0
        assert await last_messages.of(ROOM, 60.0) is None
        await node.close()

    asyncio.run(life())
