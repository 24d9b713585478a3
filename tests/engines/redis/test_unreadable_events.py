"""Events that this version cannot read, such as those of a newer version during a rolling upgrade, are skipped."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, delete, message, private, uuids
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import Nodes, cut
from tests.waiting import soon

from channelstream.core.events import Event
from channelstream.core.log import PRIVATE
from channelstream.engines.members import Member
from channelstream.engines.redis import event_text
from channelstream.engines.redis.skipped import Skipped
from channelstream.wire.channelstream import V07

ODD = "odd"
"""The uuid of events of a kind that no version knows."""


@pytest.fixture(autouse=True)
def _newer_version(monkeypatch: pytest.MonkeyPatch) -> None:
    write = event_text.write_event

    def write_event(event: Event, token: str) -> dict[str, Any]:
        fields = write(event, token)
        if event.uuid == ODD:
            fields["head"] = fields["head"].replace('"kind":"message"', '"kind":"poll"')
        return fields

    monkeypatch.setattr(event_text, "write_event", write_event)


@pytest.mark.parametrize("is_cut", [False, True], ids=["live", "after an outage"])
@pytest.mark.parametrize("text", [event_text.logs_of, lambda _: []], ids=["of a channel", "of no known form"])
def test_a_node_skips_them_and_stays_linked(
    with_one_shard: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_cut: bool,
    text: Callable[[bytes], list[event_text.Place]],
) -> None:
    """The events around them are delivered, the channel is reported as lost, and the log has one line."""
    monkeypatch.setattr("channelstream.engines.redis.shard_subscriber.logs_of", text)
    caplog.set_level(logging.WARNING)

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        speaker, _ = await nodes.node()
        if is_cut:
            cut(engine)
        await speaker.publish([message("m1"), message(ODD), message("m2")])
        await speaker.publish([message("other"), message(ODD + "2")])
        await soon(lambda: received(listener)[-1:] == [ODD + "2"])
        assert received(listener) == ["m1", "m2", "other", ODD + "2"]
        lost_channels = {name for channels, _ in listener.gaps for name in channels}
        assert lost_channels == {"a"}
        assert engine.position.offsets == (5,)

    with_one_shard(life)
    skipped = [each for each in caplog.messages if "is skipped" in each]
    assert len(skipped) == 1


def test_reads_leave_them_out_and_report_the_loss(with_one_shard: Any) -> None:
    """A replay names the channel, or the private messages; a history has the other messages."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", store_history=True, history_size=9)
        await engine.publish([message("m1"), message(ODD), message("m2"), message("m3", channel="b")])
        await engine.publish([private("p1", "ann"), private(ODD, "ann")])
        replay = await engine.replay("ann", {"a": 0, PRIVATE: 0}, 99)
        assert (uuids(replay), replay.lost) == (["m1", "m2", "p1"], {"a", PRIVATE})
        [channel] = await engine.channels(["a"])
        assert [entry.event.uuid for entry in channel.history.entries] == ["m1", "m2"]
        after = await engine.replay("ann", {"a": replay.read_to[0], PRIVATE: replay.read_to[0]}, 99)
        assert (after.entries, after.lost) == ([], frozenset())

    with_one_shard(life)


@pytest.mark.parametrize("finds", ["live", "by reading"])
def test_a_client_that_resumes_is_sent_the_loss(with_one_shard: Any, finds: str) -> None:
    """Before anything is read for it: otherwise each of its streams would end at the event."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        await engine.publish([message("m1"), message(ODD), private(ODD, "ann"), message("m2")])
        begin = {"a": 0, PRIVATE: 0}
        if finds == "by reading":
            engine, _ = await nodes.node()
            await engine.replay("ann", begin, 99)
        else:
            await soon(lambda: received(listener) == ["m1", "m2"])
        assert (await engine.replay("ann", begin, 0)).lost == {"a", PRIVATE}
        assert (await engine.replay("bob", {"a": 0}, 0)).lost == {"a"}
        assert (await engine.replay("ann", dict.fromkeys(begin, 3), 0)).lost == frozenset()

    with_one_shard(life)


def test_each_user_of_a_private_message_is_reported(with_one_shard: Any) -> None:
    """Redis sends it once for each of them."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        bob = Member("bob", "bob", V07)
        listener.members["bob"] = (bob, set())
        await engine.connect(bob, EMPTY)
        await engine.publish([private(ODD, "ann", "bob"), private("p", "ann", "bob"), message("m")])
        await soon(lambda: received(listener) == ["p", "m"])
        assert sorted(name for _, names in listener.gaps for name in names) == ["ann", "bob"]

    with_one_shard(life)


def test_the_logs_that_are_known_to_be_skipped_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channelstream.engines.redis.skipped.MAX_LOGS", 2)
    skipped = Skipped()
    for number, name in enumerate("abac", 1):
        skipped.add("e", [("c", name)], number)
    assert [skipped.has_after("e", ("c", name), 0) for name in "abc"] == [True, False, True]
    assert [skipped.has_after("e", ("c", "a"), offset) for offset in (2, 3)] == [True, False]
    assert not skipped.has_after("later", ("c", "a"), 0)


def test_a_repeated_message_is_a_duplicate_of_an_unreadable_one(with_one_shard: Any) -> None:
    """And it can be deleted."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        await engine.publish([message(ODD)])
        [again] = await engine.publish([message(ODD)])
        assert (again.duplicate, again.event) == (True, message(ODD))
        await engine.publish([delete(ODD)])
        replay = await engine.replay("ann", {"a": 0}, 99)
        assert [type(entry.event) for entry in replay.entries] == [type(delete(ODD))]

    with_one_shard(life)


@pytest.mark.parametrize("text", [b"", b"garbage", b"\x93\xa6record\xa1{\xc0", b"\x92\xa1x\xa1y", b"\x01"])
def test_a_text_in_no_form_of_ours_names_no_log(text: bytes) -> None:
    assert event_text.logs_of(text) == []
