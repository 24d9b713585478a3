"""The webhooks of a server: what all of its receivers share."""

import asyncio
import ssl
from itertools import count

import pytest
from tests.engines.conformance import MovedClock, Setup
from tests.engines.test_memory import memory_engine

from channelstream.apps.webhooks import Receiver
from channelstream.core.hub import Hub
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.service import Node
from channelstream.service.limits import NodeLimits
from channelstream.wire.protocols import PROTOCOLS

RECEIVERS = [Receiver("default", f"https://{name}.example", frozenset(), (b"x" * 24,)) for name in "abc"]


async def started_node() -> Node:
    clock, ids = MovedClock(), count()
    engine = memory_engine(Setup(clock))
    node = Node(engine, Hub(PROTOCOLS.formats, lambda: None), clock, lambda: f"id-{next(ids)}", NodeLimits())
    await node.start()
    return node


def test_certificates_are_read_before_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all receivers: it takes long, and a node that begins to send has clients to serve."""

    async def life() -> None:
        node = await started_node()
        webhooks = Webhooks(RECEIVERS, node)
        read: list[None] = []
        monkeypatch.setattr(ssl, "create_default_context", lambda: read.append(None))
        webhooks.start()
        while not webhooks.open:
            await asyncio.sleep(0)
        assert (sorted(webhooks.open), read) == ([each.name for each in RECEIVERS], [])
        await webhooks.stop()
        await node.close()

    asyncio.run(life())


def test_a_server_that_stops_sends_no_more() -> None:
    """So another node may send at once."""

    async def life() -> None:
        node = await started_node()
        webhooks = Webhooks(RECEIVERS, node)
        webhooks.start()
        while not webhooks.is_sending:
            await asyncio.sleep(0)
        await webhooks.stop()
        assert (webhooks.is_sending, webhooks.open) == (False, {})
        await node.close()

    asyncio.run(life())
