"""A connection with very many channels, as its page shows it."""

import asyncio

import pytest

from channelstream import slices
from channelstream.admin import details, lag
from channelstream.apps.app import App
from channelstream.config import Settings
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.server import build
from channelstream.service import Service
from channelstream.wire.channelstream import V07
from channelstream.wire.commanding import COMMANDING
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.pusher import PUSHER

CHANNELS = [f"c{number}" for number in range(30)]


def said(number: int) -> Message:
    return Message(
        uuid=f"m{number}", channel=f"c{number % 30}", user="bob", payload=b"1", timestamp=str(number)
    )


def test_a_connection_of_a_later_version_is_shown() -> None:
    """With the name of its protocol, and without its events, whose form this version does not know."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        later = ClientProtocol("v99", PresenceAudience.IF_ANNOUNCED)
        await node.connect("c", "ann", later, {"c1": {}}, UserUpdate({}, {}))
        await node.publish([said(1)])
        shown = await details.connection(Service(App(), node), "c")
        assert shown is not None
        assert (shown["protocol"], shown["events"]) == ("v99", [])

    asyncio.run(life())


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (PUSHER, '{"event":"message","channel":"c1","data":"1"}'),
        (COMMANDING, '{"type":"message","position":"POSITION","uuid":"m1","channel":"c1","timestamp":"1",'),
    ],
)
def test_a_connection_is_shown_with_its_events_in_its_protocol(protocol: ClientProtocol, text: str) -> None:
    """Whatever transports that is spoken on."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        await node.connect("c", "ann", protocol, {"c1": {}}, UserUpdate({}, {}))
        await node.publish([said(1)])
        shown = await details.connection(Service(App(), node), "c")
        assert shown is not None
        [event] = shown["events"]
        assert event["json"].startswith(text.replace("POSITION", event["position"]))

    asyncio.run(life())


def test_other_tasks_run_while_the_last_events_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the last events of all channels, also where the connection leaves one meanwhile."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        await node.connect("c", "ann", V07, {name: {} for name in CHANNELS}, UserUpdate({}, {}))
        await node.publish([said(number) for number in range(90)])
        looking = asyncio.create_task(details.connection(Service(App(), node), "c"))
        turns = 0
        while not looking.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 5:
                await node.unsubscribe("c", CHANNELS[:1])
        shown = await looking
        assert shown is not None
        numbers = [int(each["position"].rpartition("-")[2]) for each in shown["events"]]
        assert numbers == list(range(90, 70, -1))
        assert turns > len(CHANNELS)

    asyncio.run(life())


def test_how_far_a_client_is_behind_is_counted() -> None:
    """The events that its stream was not sent, those of others not among them, up to a bound."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        await node.connect("c", "ann", V07, {"c1": {"log_age_s": 86400.0}}, UserUpdate({}, {}))
        connection = node.connection("c")
        assert connection is not None
        assert await lag.lag_of(node, connection) == {"events": 0, "bytes": 0, "seconds": 0.0, "more": False}
        await node.publish([said(1), said(2)])
        await node.publish([said(31)])
        [channel] = await node.directory.channels(["c1"])
        channel.log.entries[0].at_s -= 3600
        shown = await lag.lag_of(node, connection)
        assert shown is not None
        items = [PROTOCOLS.format_of(V07, Framing.POLL).item(entry) or b"" for entry in channel.log.entries]
        assert (shown["events"], shown["bytes"], shown["more"]) == (2, sum(map(len, items)), False)
        assert 3600 <= shown["seconds"] < 7200
        await node.publish([said(1 + 30 * number) for number in range(2, lag.COUNTED + 2)])
        shown = await lag.lag_of(node, connection)
        assert shown is not None
        assert (shown["events"] <= lag.COUNTED, shown["more"]) == (True, True)

    asyncio.run(life())
