"""Signals: any number of consumers, none of which can harm what is announced or another consumer."""

import asyncio

import pytest

from channelstream.config import Settings
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.errors import Invalid
from channelstream.server import build
from channelstream.service import Node
from channelstream.service.signals import Signal
from channelstream.wire.channelstream import V07


@pytest.fixture
def node() -> Node:
    return build(Settings(port=0)).node


def entry(offset: int) -> Entry:
    event = Message(uuid=f"m{offset}", channel="a", user="ann", payload=b"1", timestamp="t")
    return Entry(offset, ("e",), 0.0, event)


def test_consumers_are_called_in_the_order_in_which_they_connected() -> None:
    signal: Signal[[str]] = Signal()
    called: list[str] = []
    assert not signal
    signal.emit("nobody")
    signal.connect(lambda text: called.append(f"first {text}"))
    signal.connect(lambda text: called.append(f"second {text}"))
    assert signal
    signal.emit("a")
    assert called == ["first a", "second a"]


def test_a_failing_consumer_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    signal: Signal[[str]] = Signal()
    called: list[str] = []

    def fail(_text: str) -> None:
        raise ValueError("a bug in a consumer")

    signal.connect(fail)
    signal.connect(called.append)
    signal.emit("a")
    assert called == ["a"]
    assert "a bug in a consumer" in caplog.text


def test_a_consumer_may_disconnect_while_it_is_called() -> None:
    """The others are still called, and it is not called again."""
    signal: Signal[[str]] = Signal()
    called: list[str] = []

    def once(text: str) -> None:
        called.append(f"once {text}")
        signal.disconnect(once)

    signal.connect(once)
    signal.connect(called.append)
    signal.emit("a")
    signal.emit("b")
    assert called == ["once a", "a", "b"]


def test_accepted_is_announced_before_the_hub_delivers(node: Node) -> None:
    """To each consumer; when the last one has disconnected, the engine calls the hub itself again."""
    offsets: list[tuple[str, int]] = []

    def first(_entry: Entry) -> None:
        offsets.append(("first", node.hub.offsets[0]))

    def second(_entry: Entry) -> None:
        offsets.append(("second", node.hub.offsets[0]))

    node.signals.accepted.connect(first)
    node.signals.accepted.connect(second)
    node.deliver(entry(5))
    node.signals.accepted.disconnect(first)
    node.deliver(entry(6))
    node.signals.accepted.disconnect(second)
    assert node.deliver == node.hub.deliver
    assert offsets == [("first", 0), ("second", 0), ("second", 5)]
    assert node.hub.offsets == (6,)


def test_a_connection_at_once_is_registered_as_a_whole_or_not_at_all(node: Node) -> None:
    """Consumers that fail at its presence change nothing, and a state that is too large is refused before any change."""

    def fail(*_announced: object) -> None:
        raise ValueError("a bug in a consumer")

    async def life() -> None:
        await node.start()
        node.signals.accepted.connect(fail)
        node.signals.delivered.connect(fail)
        channels = {"a": {"notify_presence": True}}
        for name, state in (("ann", "x"), ("bob", "x"), ("eve", "x" * 1_000_000)):
            try:
                node.connect_at_once(Member(name, name, V07), channels, UserUpdate({"k": state}, {}), "")
            except Invalid:
                assert name == "eve"
        [found] = await node.directory.channels(["a"])
        assert sorted(found.users) == sorted(node.hub.connections) == ["ann", "bob"]
        assert [each.name for each in await node.directory.users(["ann", "bob", "eve"])] == ["ann", "bob"]

    asyncio.run(life())
