"""Long lists of events, and events for very many users, are published in several turns of the event loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from channelstream import slices
from channelstream.api.answers import MessageAnswer
from channelstream.api.call import Call
from channelstream.api.messages import STEP, publish
from channelstream.apps.app import App
from channelstream.config import Settings
from channelstream.core.accepted import Accepted
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited
from channelstream.core.log import PRIVATE
from channelstream.core.user import UserUpdate
from channelstream.engines import user_groups
from channelstream.engines.members import Member
from channelstream.engines.user_groups import USERS_AT_ONCE
from channelstream.errors import Unavailable
from channelstream.server import build
from channelstream.service import Node, Service
from channelstream.service.publishing import STEPS_AT_ONCE
from channelstream.service.service import KEYED_AT_ONCE
from channelstream.wire.channelstream import V07


def private(users: int) -> Callable[[str], Event]:
    names = frozenset(f"user {number}" for number in range(users))
    return lambda uuid: Message(uuid=uuid, channel=None, only=names, user="a", payload=b"1", timestamp="")


def message(uuid: str) -> Event:
    return Message(uuid=uuid, channel="a", user="a", payload=b"1", timestamp="")


def deletion(uuid: str) -> Event:
    return MessageDeleted(uuid=uuid, channel="a")


async def sizes(node: Node, events: Sequence[Event]) -> list[int]:
    """Send events, and return how many the engine is passed at a time."""
    found: list[int] = []
    publish = node._engine.publish

    async def counted(part: Sequence[Event]) -> list[Accepted]:
        found.append(len(part))
        return await publish(part)

    node._engine.publish = counted  # type: ignore[method-assign]
    accepted = await node._publishing.publish(events)
    assert [each.event for each in accepted] == list(events)
    return found


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (message, [100]),
        (deletion, [50, 50]),
        (private(1), [100]),
        (private(100), [4] * 25),
        (private(USERS_AT_ONCE), [2] * 50),
        (private(USERS_AT_ONCE + 1), [1] * 200),
    ],
)
def test_a_part_is_as_long_as_its_events_are_cheap(make: Callable[[str], Event], expected: list[int]) -> None:
    """A deletion searches logs, and each recipient of a private message has one of its own."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        assert await sizes(node, [make(f"m{number}") for number in range(100)]) == expected

    asyncio.run(life())


@pytest.fixture(params=["memory", "sqlite"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    engine = "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}"
    return build(Settings(secret="x", admin_secret="y", engine=engine)).node


CROWD = [f"user {number}" for number in range(5)]
NOTHING = UserUpdate({}, {})


def to(names: Sequence[str], **more: Any) -> Message:
    return Message(uuid="m", only=frozenset(names), user="a", payload=b"1", timestamp="", **more)


async def received(node: Node) -> dict[str, list[Event]]:
    """Return the private messages in the log of each user."""
    logs = {name: await node._engine.replay(name, {PRIVATE: 0}, 99) for name in CROWD}
    return {name: [entry.event for entry in read.entries] for name, read in logs.items()}


def test_a_message_in_parts_is_one_message(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user has it once, also when it is repeated for more users; an edit and a deletion reach all of them."""
    monkeypatch.setattr(user_groups, "USERS_AT_ONCE", 2)

    async def life() -> None:
        await node.start()
        for name in CROWD:
            await node._engine.connect(Member(name, name, V07), NOTHING)
        some, all_of_them = to(CROWD[:3]), to(CROWD, exclude=frozenset(CROWD[4:]))
        edit = MessageEdited(uuid="m", only=frozenset(CROWD), edited="t", payload=b"2")
        deletion = MessageDeleted(uuid="m", only=frozenset(CROWD))
        publish = node._publishing.publish
        assert await publish([some]) == [Accepted(some, duplicate=False, found=False)]
        assert await publish([all_of_them]) == [Accepted(all_of_them, duplicate=False, found=True)]
        assert [len(each) for each in (await received(node)).values()] == [1, 1, 1, 1, 0]
        assert await publish([edit]) == [Accepted(edit, duplicate=False, found=True)]
        messages = [each[0] for each in (await received(node)).values() if each]
        assert [each.payload for each in messages if isinstance(each, Message)] == [b"2"] * 4
        [again] = await publish([some])
        assert again == Accepted(replace(some, payload=b"2", edited="t"), duplicate=True, found=True)
        assert await publish([deletion]) == [Accepted(deletion, duplicate=False, found=True)]
        assert await publish([some]) == [Accepted(some, duplicate=True, found=False)]
        assert not any(
            isinstance(event, Message) for each in (await received(node)).values() for event in each
        )
        await node._engine.close()

    asyncio.run(life())


def test_parts_that_reach_nobody_make_no_repeat_a_new_message(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one of the users is known."""
    monkeypatch.setattr(user_groups, "USERS_AT_ONCE", 2)

    async def life() -> None:
        await node.start()
        await node._engine.connect(Member(CROWD[2], CROWD[2], V07), NOTHING)
        deletion = MessageDeleted(uuid="m", only=frozenset(CROWD))
        edit = MessageEdited(uuid="m", only=frozenset(CROWD), edited="t", payload=b"2")
        publish = node._publishing.publish
        assert await publish([to(CROWD)]) == [Accepted(to(CROWD), duplicate=False, found=False)]
        assert await publish([to(CROWD)]) == [Accepted(to(CROWD), duplicate=True, found=True)]
        assert await publish([deletion]) == [Accepted(deletion, duplicate=False, found=True)]
        assert await publish([to(CROWD)]) == [Accepted(to(CROWD), duplicate=True, found=False)]
        assert await publish([edit]) == [Accepted(edit, duplicate=True, found=False)]
        others = to(CROWD[:2] + CROWD[3:])
        assert await publish([others]) == [
            Accepted(others, duplicate=False, found=False, reaches_nobody=True)
        ]
        await node._engine.close()

    asyncio.run(life())


async def publish_in_steps(node: Node, event: Event, between: Callable[[int], Awaitable[object]]) -> None:
    """Publish an event, and await `between` with the number of the step after each of them."""
    publish, steps = node._engine.publish, 0

    async def noted(part: Sequence[Event]) -> list[Accepted]:
        nonlocal steps
        accepted = await publish(part)
        node._engine.publish = publish  # type: ignore[method-assign]
        steps += 1
        await between(steps)
        node._engine.publish = noted  # type: ignore[method-assign]
        return accepted

    node._engine.publish = noted  # type: ignore[method-assign]
    await node._publishing.publish([event])
    node._engine.publish = publish  # type: ignore[method-assign]


@pytest.mark.parametrize("deletes", [False, True])
def test_a_change_between_the_steps_of_a_message_applies_to_all_its_users(
    node: Node, monkeypatch: pytest.MonkeyPatch, deletes: bool
) -> None:
    """Those of the later steps get the message in its edited form, and no deleted one."""
    monkeypatch.setattr(user_groups, "USERS_AT_ONCE", 2)
    everybody = frozenset(CROWD)

    async def life() -> None:
        await node.start()
        for name in CROWD:
            await node._engine.connect(Member(name, name, V07), NOTHING)
        deletion = MessageDeleted(uuid="m", only=everybody)
        edit = MessageEdited(uuid="m", only=everybody, edited="t", payload=b"2")
        found: list[Accepted] = []

        async def change(step: int) -> None:
            if step == 1:
                found.extend(await node._publishing.publish([deletion if deletes else edit]))

        await publish_in_steps(node, to(CROWD), change)
        assert [each.found for each in found] == [True]
        kept = [
            [each for each in log if isinstance(each, Message)] for log in (await received(node)).values()
        ]
        assert [[each.payload for each in log] for log in kept] == [[] if deletes else [b"2"]] * len(CROWD)
        await node._engine.close()

    asyncio.run(life())


def test_an_edit_is_divided_as_its_message_was(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one for more users, at once with the last step of the message: each has it in its edited form."""
    monkeypatch.setattr(user_groups, "USERS_AT_ONCE", 2)
    edit = MessageEdited(uuid="m", only=frozenset({"nobody", *CROWD}), edited="t", payload=b"2")

    async def life() -> None:
        await node.start()
        for name in CROWD:
            await node._engine.connect(Member(name, name, V07), NOTHING)
        await node._publishing.publish([to(CROWD[:3])])
        last, edited = await asyncio.gather(
            node._engine.publish([to(CROWD[3:])]), node._publishing.publish([edit])
        )
        assert (last[0].duplicate, edited[0]) == (False, Accepted(edit, duplicate=False, found=True))
        for log in (await received(node)).values():
            assert [each.payload for each in log if isinstance(each, Message)] == [b"2"]
        await node._engine.close()

    asyncio.run(life())


def test_a_change_for_very_many_users_is_accepted_in_steps() -> None:
    """As the message is: no step is for more users than one of a message."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        names = frozenset(f"user {number}" for number in range(2 * USERS_AT_ONCE + 1))
        for name in names:
            await node._engine.connect(Member(name, name, V07), NOTHING)
        await node._publishing.publish([to(list(names))])
        edit = MessageEdited(uuid="m", only=names, edited="t", payload=b"2")
        for change in (edit, MessageDeleted(uuid="m", only=names)):
            parts = [part async for part in node._engine.divide(change)]
            assert sorted(len(part.only or ()) for part in parts) == [1, USERS_AT_ONCE, USERS_AT_ONCE]
            assert frozenset[str]().union(*(part.only or () for part in parts)) == names
            assert (await node._publishing.publish([change]))[0].found
        await node._engine.close()

    asyncio.run(life())


async def turns_until_published(node: Node, events: Sequence[Event]) -> tuple[int, int]:
    """Publish events, and return how many turns of other work run before the engine has the first, and in all."""
    begun: list[int] = []
    count = 0
    publish = node._engine.publish

    async def noted(part: Sequence[Event]) -> list[Accepted]:
        begun.append(count)
        return await publish(part)

    node._engine.publish = noted  # type: ignore[method-assign]
    publishing = asyncio.create_task(node._publishing.publish(events))
    await asyncio.sleep(0)
    while not publishing.done():
        count += 1
        await asyncio.sleep(0)
    await publishing
    return begun[0], count


@pytest.mark.parametrize(("users", "expected"), [(slices.MANY - 1, (0, 0)), (slices.MANY, (1, 2))])
def test_an_event_for_many_users_has_a_turn_of_its_own(users: int, expected: tuple[int, int]) -> None:
    """Reading the request and answering it are not in the same turn."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        assert await turns_until_published(node, [private(users)("m")]) == expected

    asyncio.run(life())


def test_names_of_a_long_list_get_their_keys_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event may have very many users, whatever the length of the list."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        service, make = Service(App("other"), node), private(2)
        publishing = asyncio.create_task(service.publish([make(f"m{number}") for number in range(100)]))
        count = 0
        while not publishing.done():
            await asyncio.sleep(0)
            count += 1
        assert count >= 100 / KEYED_AT_ONCE
        accepted = await publishing
        assert [each.event.only for each in accepted] == [service.app.keyed(make("m")).only] * 100

    asyncio.run(life())


def test_a_long_list_of_bodies_becomes_events_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of each body are read before its event gets its keys, both in turns of their own."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    body = json.dumps([{"user": "a", "pm_users": ["b"], "message": number} for number in range(100)]).encode()

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        publishing = asyncio.create_task(publish(Call.internal(Service(App(), node), body)))
        count = 0
        while not publishing.done():
            await asyncio.sleep(0)
            count += 1
        assert count >= 100 / STEP + 100 / KEYED_AT_ONCE
        answers = await publishing
        assert isinstance(answers, list)
        messages = [bytes(answer.message) for answer in answers if isinstance(answer, MessageAnswer)]
        assert messages == [b"%d" % number for number in range(100)]

    asyncio.run(life())


@pytest.mark.replaces_compiled
def test_few_steps_of_an_event_wait_for_the_engine(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at a time, and all of them have ended when the call fails."""
    monkeypatch.setattr(user_groups, "USERS_AT_ONCE", 1)

    async def life() -> None:
        await node.start()
        answered, waiting, most, ended = asyncio.Event(), 0, 0, 0

        async def publish(_: Sequence[Event]) -> list[Accepted]:
            nonlocal waiting, most, ended
            waiting, number = waiting + 1, waiting
            most = max(most, waiting - ended)
            if number == STEPS_AT_ONCE - 1:
                answered.set()
            await answered.wait()
            ended += 1
            raise Unavailable("The engine is out of reach.")

        node._engine.publish = publish  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await node._publishing.publish([to(CROWD)])
        assert (waiting, ended, most) == (STEPS_AT_ONCE, STEPS_AT_ONCE, STEPS_AT_ONCE)
        await node._engine.close()

    asyncio.run(life())
