"""Edits and deletions that arrive while what they change is read, buffered or written piece by piece."""

from typing import Any

import pytest
from tests.simulation.line import FrameParser, Line
from tests.simulation.loop import turns
from tests.transports.test_races import Scene, play

from channelstream.core.changes import KEPT
from channelstream.core.events import Event, MessageDeleted, MessageEdited
from channelstream.transports import catch_up
from channelstream.transports.websocket import WebSocketStream


def edited(uuid: str, **rest: Any) -> MessageEdited:
    return MessageEdited(uuid=uuid, channel="a", edited="e", payload=b"2", **rest)


def deleted(uuid: str, **rest: Any) -> MessageDeleted:
    return MessageDeleted(uuid=uuid, channel="a", **rest)


def summary(items: list[Any]) -> list[tuple[str, str, Any]]:
    return [(item["type"], item["uuid"], item.get("message")) for item in items if "uuid" in item]


@pytest.mark.parametrize("exclude", [None, frozenset({"u"})])
def test_an_entry_superseded_after_it_was_read_is_not_sent(exclude: frozenset[str] | None) -> None:
    """Though the engine has handed it over; whether this client is sent the change or is excluded from it."""

    async def scenario(scene: Scene) -> list[Any]:
        await scene.publish("a", "m1", "m2", "m3")

        async def meanwhile() -> None:
            await scene.node.publish([edited("m1", exclude=exclude), deleted("m2", exclude=exclude)])

        scene.engine.after["replay"].append(meanwhile)
        first = await scene.answer(scene.open(None))
        return (
            [*summary(first), *summary(await scene.answer(scene.open(None)))]
            if exclude is None
            else summary(first)
        )

    changes = [("message:edit", "m1", 2), ("message:delete", "m2", None)]
    wanted = [("message", "m1", 2), ("message", "m3", 1)]
    assert play(scenario) == (wanted if exclude else wanted + changes)


def test_a_read_with_too_many_later_changes_is_repeated() -> None:
    """More edits and deletions than are remembered: the engine knows all of them."""

    async def scenario(scene: Scene) -> list[Any]:
        await scene.publish("a", "m1", "m2")

        async def meanwhile() -> None:
            others = [MessageDeleted(uuid=str(number), channel="b") for number in range(KEPT)]
            await scene.node.publish([deleted("m1", exclude=frozenset({"u"})), *others])
            scene.node.hub.flush()
            await scene.node.publish(others[:1])

        scene.engine.after["replay"].append(meanwhile)
        return summary(await scene.answer(scene.open(None)))

    assert play(scenario) == [("message", "m2", 1)]


def test_events_buffered_during_catch_up_are_sent_in_their_current_form() -> None:
    """An event arrives during the read, and is superseded before the read ends."""

    async def scenario(scene: Scene) -> list[Any]:
        async def meanwhile() -> None:
            await scene.publish("a", "m1", "m2")
            changes: list[Event] = [edited("m1"), deleted("m2", exclude=frozenset({"u"}))]
            await scene.node.publish(changes)
            scene.node.hub.flush()

        scene.engine.after["replay"].append(meanwhile)
        return summary(await scene.answer(scene.open(None)))

    assert play(scenario) == [("message", "m1", 2), ("message:edit", "m1", 2)]


def test_a_slow_client_is_not_sent_what_was_deleted_while_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries read from the log wait until it has read the earlier ones."""
    monkeypatch.setattr(catch_up, "PIECE_BYTES", 1)

    async def scenario(scene: Scene) -> list[Any]:
        await scene.publish("a", "m1", "m2", "m3")
        line = Line(high=1, pauses_late=False)
        stream = WebSocketStream(scene.streams, line, scene.node.hub.connections["c1"], deflate=False)  # type: ignore[arg-type]
        line.protocol = stream
        stream.open(None)
        line.set_write_buffer_limits(high=1)
        parser, found = FrameParser(), []
        await turns(20)
        await scene.node.publish([deleted("m2"), edited("m3")])
        for _ in range(6):
            found += [item for items in parser.feed(line.take(len(line.unread))) for item in items]
            await turns(20)
        return summary(found)

    assert play(scenario) == [
        ("message", "m1", 1),
        ("message", "m3", 2),
        ("message:delete", "m2", None),
        ("message:edit", "m3", 2),
    ]
