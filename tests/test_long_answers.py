"""Long answers: encoded in many short turns of the loop, and sent in parts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from channelstream import slices
from channelstream.api.call import Call, NoFields
from channelstream.api.channels import info
from channelstream.api.connections import connect, subscribe, unsubscribe
from channelstream.api.messages import publish
from channelstream.api.walker import Walker
from channelstream.apps.app import App
from channelstream.config import Settings
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.position import Position
from channelstream.http.parts import PART_BYTES, Parts, encode, in_parts
from channelstream.server import build
from channelstream.service import Node, Service
from channelstream.slices import STEP, Slices
from channelstream.wire import channelstream as channelstream_wire

RAW = msgspec.Raw(b'{"x": 1}')
CONN_ID = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, b"{}"),
        ([], b"[]"),
        (None, b"null"),
        ({"a": 1, "b": "c"}, b'{"a":1,"b":"c"}'),
        ({"a": RAW, "b": [RAW, RAW], "c": []}, b'{"a":{"x": 1},"b":[{"x": 1},{"x": 1}],"c":[]}'),
        (
            {"a": {"b": {"c": RAW}}, "\u201c\n": [1, [2], "3"]},
            '{"a":{"b":{"c":{"x": 1}}},"\u201c\\n":[1,[2],"3"]}'.encode(),
        ),
    ],
)
def test_parts_are_the_json_of_the_whole(value: Any, text: bytes) -> None:
    """Whatever is in it."""
    parts = asyncio.run(in_parts(value, Slices(lambda: 0.0))).parts
    assert b"".join(parts) == text == encode(value)


def test_a_part_has_so_many_bytes() -> None:
    """One more item at most; a longer item is not cut."""
    items = [msgspec.Raw(b'"%b"' % (b"x" * 998)) for _ in range(200)]
    parts = asyncio.run(in_parts(items, Slices(lambda: 0.0))).parts
    assert all(PART_BYTES <= len(part) <= PART_BYTES + 1000 for part in parts[:-1])
    assert len(parts) == 4


def test_very_small_pieces_are_encoded_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of one part."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        encoding = asyncio.ensure_future(in_parts([RAW] * 5 * STEP, Slices(lambda: 0.0)))
        count = 0
        while not encoding.done():
            await asyncio.sleep(0)
            count += 1
        assert len(encoding.result().parts) == 1
        assert count >= 10  # A piece and a comma for each item.

    asyncio.run(life())


class Busy(Service):
    """An application that sends a message whenever it has read the end of the log."""

    async def head(self, names: Sequence[str] | None = None, all_shards: bool = False) -> Position:
        head = await super().head(names, all_shards)
        await self.publish([Message(uuid=str(uuid4()), channel="a", user="u", payload=b"1", timestamp="t")])
        return head


@pytest.mark.replaces_compiled
def test_a_history_ends_at_the_position_of_its_answer() -> None:
    """A client that resumes from there receives what came while the answer was made."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        service = Busy(App(), node)
        await service.configure({"a": {"store_history": True}})
        for count in range(3):
            answer: Any = await info(Call.internal(service, b'{"info": {"channels": ["a"]}}'))
            assert len(answer.channels["a"].history) == count

    asyncio.run(life())


Handler = Callable[[Call], Awaitable[Any]]


async def asked(node: Node, handler: Handler, **body: Any) -> tuple[Any, int]:
    """Return what a call answers, and how many turns of the loop it took."""
    call = Call(Service(App(), node), NoFields(), encode({"conn_id": CONN_ID, **body}), Walker())
    task, count = asyncio.ensure_future(handler(call)), 0
    while not task.done():
        await asyncio.sleep(0)
        count += 1
    return await task, count


@pytest.mark.parametrize("channels", [3, STEP + 10])
def test_answers_about_channels_are_encoded_in_short_turns(
    monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    """Where they are many, and where their histories are long; the answers are those of short ones."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    names = [f"c{number}" for number in range(channels)]
    shown, text = 30, "x" * 5000

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=3600)).node
        await node.start()
        settings = {"store_history": True, "history_size": shown}
        configs = dict.fromkeys(names, settings)
        await asked(node, connect, username="ann", channels=names, channel_configs=configs)
        for name in names:
            items = [{"user": "a", "channel": name, "message": text} for _ in range(shown)]
            call = Call(Service(App(), node), NoFields(), encode(items), Walker())
            await publish(call)
        for handler, body in (
            (info, {"info": {"channels": names}}),
            (unsubscribe, {"channels": names[:-1]}),
            (subscribe, {"channels": names}),
            (connect, {"username": "ann", "channels": names}),
        ):
            value, count = await asked(node, handler, **body)
            assert isinstance(value, Parts)
            assert max(map(len, value.parts)) < 2 * PART_BYTES
            answer = msgspec.json.decode(b"".join(value.parts))
            described = answer.get("channels_info", answer)["channels"]
            assert {
                name: [item["message"] for item in each["history"]] for name, each in described.items()
            } == {name: [text] * shown for name in (names if handler is not unsubscribe else names[-1:])}
            assert count >= 3 * len(described)  # Each is described in a turn, and encoded in two.

    asyncio.run(life())


def test_settings_of_many_channels_are_read_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `/subscribe`, here to channels that the connection is in: nothing else takes turns."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    few, many = ([f"c{number}" for number in range(count)] for count in (STEP, 5 * STEP))

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=3600)).node
        await node.start()
        await asked(node, connect, username="ann", channels=many, info={"channels": []})
        counts = []
        for names in (few, many):
            configs = {name: {"notify_presence": True} for name in names}
            body = {"channels": names, "channel_configs": configs, "info": {"channels": []}}
            answer, count = await asked(node, subscribe, **body)
            assert answer.subscribed_to == []
            counts.append(count)
        assert counts[1] - counts[0] == 5

    asyncio.run(life())


def test_users_of_many_channels_are_collected_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of each channel in one."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=3600)).node
        await node.start()
        names = [f"c{number}" for number in range(20)]
        await asked(node, connect, username="ann", channels=names, info={"channels": []})
        counts = []
        for described in (names[:10], names):
            answer, count = await asked(node, info, info={"channels": described, "include_history": False})
            assert (list(answer.channels), answer.users) == (described, [{"user": "ann", "state": {}}])
            counts.append(count)
        assert counts[1] - counts[0] == 10

    asyncio.run(life())


def test_a_list_of_messages_is_made_sent_and_answered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a list that is not sent in chunks; each of the three has a turn of its own if the one before was long."""
    items = [{"user": "a", "channel": "c", "message": number} for number in range(3)]

    async def life() -> int:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        call = Call(Service(App(), node), NoFields(), encode(items), Walker())
        publishing, count = asyncio.ensure_future(publish(call)), 0
        while not publishing.done():
            await asyncio.sleep(0)
            count += 1
        assert len(publishing.result()) == 3
        return count

    monkeypatch.setattr(slices, "TURN_S", 3600.0)
    assert asyncio.run(life()) == 1
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    assert asyncio.run(life()) == 4


def test_the_items_of_a_history_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for; a history may have very many long messages."""
    encoded: list[Entry] = []
    encode_item = channelstream_wire._encoded

    def counted(entry: Entry, *arguments: Any, **named: Any) -> bytes:
        encoded.append(entry)
        return encode_item(entry, *arguments, **named)

    monkeypatch.setattr(channelstream_wire, "_encoded", counted)

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        await node.configure({"a": {"store_history": True, "history_size": 10}})
        message = Message(uuid="m", channel="a", user="ann", payload=b'"hi"', timestamp="t")
        await node.publish([message])
        for _ in range(3):
            answer, _turns = await asked(node, info)
            assert [bytes(item) for item in answer.channels["a"].history] != []
        assert len(encoded) == 1

    asyncio.run(life())
