"""What every engine must do: one suite, run by each implementation.

A test module of an engine imports everything from here and provides the fixture `make_engine`, a function that takes
a `Setup` and returns an engine that has not been started. Engines whose receiver is called after `publish` returns
override the fixture `settle`, a coroutine function that returns once everything accepted has been delivered.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pytest

from channelstream.core.channel import Channel
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UserStateChanged,
)
from channelstream.core.log import PRIVATE, Accepted, Entry, Replay
from channelstream.core.position import Offsets, Position, max_offsets, shard_of
from channelstream.core.registry import RegistryLimits
from channelstream.core.user import MAX_STATE_BYTES, MAX_STATE_KEYS, User, UserUpdate
from channelstream.engines.base import Engine
from channelstream.engines.members import Leaving, Member, Membership
from channelstream.errors import Invalid
from channelstream.wire.channelstream import SEED, V07

T = TypeVar("T")
ALWAYS, IF_ANNOUNCED = PresenceAudience.ALWAYS, PresenceAudience.IF_ANNOUNCED
EMPTY = UserUpdate({}, {})


class MovedClock:
    """A clock that moves only when a test moves it.

    Attributes:
        passed_s: seconds that have passed.
        set_s: by how many seconds the wall clock was set forward besides.
    """

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.set_s = 0.0

    def wall(self) -> float:
        return 1_700_000_000.0 + self.passed_s + self.set_s

    def steady(self) -> float:
        return 50.0 + self.passed_s


@dataclass
class Setup:
    """What an engine is made with: time, bounds, and how long the unused is kept (seconds)."""

    clock: MovedClock = field(default_factory=MovedClock)
    limits: RegistryLimits = field(default_factory=RegistryLimits)
    users_s: float = 1000.0
    channels_s: float = 2000.0


class Recorder:
    """A receiver that keeps the entries it was given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.members: dict[str, tuple[Member, set[str]]] = {}
        self.gaps: list[tuple[list[str], list[str]]] = []
        self.renewals = 0

    def deliver(self, entry: Entry) -> None:
        self.entries.append(entry)

    def advance(self, offsets: Offsets) -> None:
        """Nothing to remember."""

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        self.gaps.append((sorted(channels), sorted(users)))

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        self.renewals += 1

    def taken_over(self, conn_id: str) -> None:
        self.members.pop(conn_id, None)

    def local_connections(self) -> Collection[str]:
        return self.members.keys()

    def has_channel(self, name: str) -> bool:
        return any(name in channels for _, channels in self.members.values())

    def has_user(self, name: str) -> bool:
        return any(member.user == name for member, _ in self.members.values())

    def membership(self, conn_id: str) -> Membership | None:
        if conn_id not in self.members:
            return None
        member, channels = self.members[conn_id]
        return Membership(member, dict.fromkeys(channels))

    async def execute(self, command: bytes) -> bytes:
        return b"executed " + command


MakeEngine = Callable[[Setup], Engine]
Settle = Callable[[Engine], Awaitable[None]]


class Lab:
    """A started engine, driven call by call from plain tests."""

    def __init__(self, runner: asyncio.Runner, engine: Engine, setup: Setup, settle: Settle) -> None:
        self.engine = engine
        self.clock = setup.clock
        self._runner = runner
        self._settle = settle
        self.recorder = Recorder()
        engine.cluster.serve(self.recorder)
        self.run(engine.start(self.recorder))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def flush() -> T:
            result = await work
            await self._settle(self.engine)
            return result

        return self._runner.run(flush())

    def received(self) -> list[Event]:
        """Return the events that the receiver was given so far, in order."""
        return [entry.event for entry in self.recorder.entries]

    def in_order(self, events: Iterable[Event]) -> list[Event]:
        """Sort events by shard: in each their order counts, which shard comes first does not."""
        return sorted(events, key=self._shard)

    def _shard(self, event: Event) -> int:
        [name] = [event.channel] if event.channel is not None else event.only or ()
        return shard_of(name, len(self.engine.position.offsets))

    def numbers(self) -> list[int]:
        return [entry.offset for entry in self.recorder.entries]

    def received_entries(self) -> list[Entry]:
        return self.recorder.entries

    def publish(self, *events: Event) -> list[Accepted]:
        return self.run(self.engine.publish(events))

    def replay(self, user: str, limit: int | None = None, **starts: int) -> Replay:
        """Replay channels given by keyword; private messages are called `private`.

        Args:
            limit: of one read; None means to read on as long as there is more.
        """
        named = {PRIVATE if name == "private" else name: start for name, start in starts.items()}
        if limit is not None:
            return self.run(self.engine.replay(user, named, limit))
        entries: list[Entry] = []
        lost: frozenset[str] = frozenset()
        while True:
            read = self.run(self.engine.replay(user, named, 1000))
            entries, lost = entries + read.entries, lost | read.lost
            if read.read_to == read.head:
                return Replay(entries, lost, read.read_to, read.head)
            shards = {name: shard_of(user if name == PRIVATE else name, len(read.read_to)) for name in named}
            named = {
                name: max(at, read.read_to[shards[name]]) for name, at in named.items() if name not in lost
            }

    def connect(
        self, user: str, *channels: str, protocol: ClientProtocol = V07, conn_id: str = "", **settings: Any
    ) -> Member:
        """Connect a user and join channels, which get the settings if they are new."""
        member = Member(conn_id or f"of-{user}", user, protocol)
        self.recorder.members[member.conn_id] = (member, set())
        self.run(self.engine.connect(member, EMPTY))
        self.join(member, *channels, **settings)
        return member

    def join(self, member: Member, *channels: str, **settings: Any) -> None:
        self.recorder.members[member.conn_id][1].update(channels)
        self.run(self.engine.join(member, dict.fromkeys(channels, settings)))

    def leave(self, member: Member, *channels: str) -> None:
        self.recorder.members[member.conn_id][1].difference_update(channels)
        self.run(self.engine.leave(member, channels))

    def disconnect(self, member: Member, *channels: str) -> None:
        del self.recorder.members[member.conn_id]
        self.run(self.engine.disconnect(member, channels))

    def disconnect_all(self, members: Iterable[Member], *channels: str) -> None:
        leaving = [Leaving(member, channels) for member in members]
        for member in members:
            del self.recorder.members[member.conn_id]
        self.run(self.engine.disconnect_all(leaving))

    def configure(self, channel: str, **patch: Any) -> None:
        self.run(self.engine.configure({channel: patch}))

    def channels(self, *names: str) -> list[Channel]:
        return self.run(self.engine.channels(names or None))

    def channel(self, name: str) -> Channel:
        (channel,) = self.channels(name)
        return channel

    def users(self, *names: str) -> list[User]:
        return self.run(self.engine.users(names or None))

    def user(self, name: str) -> User:
        (user,) = self.users(name)
        return user

    def collect(self, after_s: float) -> None:
        self.clock.passed_s += after_s
        self.run(self.engine.collect())

    def head(self, name: str = "a") -> int:
        """The last number in the shard of a channel or user."""
        return self.number(self.engine.position.offsets, name)

    def number(self, numbers: Offsets, name: str = "a") -> int:
        """Of the numbers of all shards that of the one a channel or user is in."""
        return numbers[shard_of(name, len(numbers))]

    def read_whole(self, replay: Replay) -> bool:
        return replay.read_to == replay.head == self.engine.position.offsets


@pytest.fixture
def settle() -> Settle:
    """Nothing to wait for: the receiver is called before `publish` returns."""

    async def nothing(engine: Engine) -> None:
        return

    return nothing


@pytest.fixture
def open_lab(make_engine: MakeEngine, settle: Settle) -> Iterator[Callable[..., Lab]]:
    """Start an engine with the given bounds; it is closed at the end."""
    with asyncio.Runner() as runner:
        labs: list[Lab] = []

        def open_lab(**bounds: Any) -> Lab:
            setup = Setup(**bounds)
            labs.append(Lab(runner, make_engine(setup), setup, settle))
            return labs[-1]

        yield open_lab
        for lab in labs:
            runner.run(lab.engine.close())


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    return open_lab()


def message(uuid: str, channel: str | None = "a", **rest: Any) -> Message:
    return Message(uuid=uuid, channel=channel, user="ann", payload=b'"hi"', timestamp="t", **rest)


def private(uuid: str, *users: str) -> Message:
    return message(uuid, channel=None, only=frozenset(users))


def uuids(replay: Replay) -> list[str]:
    return [entry.event.uuid for entry in replay.entries]


# -- publishing


def test_accepted_events_are_delivered_in_order(lab: Lab) -> None:
    """In the order of each request and of the requests, with increasing offsets."""
    lab.connect("ann", "a", "b")
    events = [message("m1"), message("m2", channel="b"), MessageDeleted(uuid="m1", channel="a")]
    accepted = lab.publish(*events)
    lab.publish(message("m3"))
    assert [each.event for each in accepted] == events
    assert lab.in_order(lab.received()) == lab.in_order([*events, message("m3")])
    numbers = [(entry.shard, entry.offset) for entry in lab.received_entries()]
    assert sorted(numbers) == sorted(set(numbers), key=lambda number: (number[0], numbers.index(number)))


def test_the_position_is_that_of_the_last_event(lab: Lab) -> None:
    """Every entry carries the position a client sees, in one epoch."""
    lab.connect("ann", "a")
    lab.publish(message("m1"), message("m2"))
    entries = lab.received_entries()
    positions = [Position.parse(entry.position) for entry in entries]
    assert positions == [Position(lab.engine.position.epochs, entry.offsets) for entry in entries]
    assert [lab.number(entry.offsets) for entry in entries] == lab.numbers()
    assert positions[-1] == lab.engine.position


def test_publishing_nothing_does_nothing(lab: Lab) -> None:
    """An empty request is accepted."""
    assert lab.publish() == []
    assert lab.received() == []


def test_a_repeated_message_is_delivered_once(lab: Lab) -> None:
    """A repetition returns the message accepted first; within one request as well."""
    lab.connect("ann", "a")
    first = message("m1")
    assert lab.publish(first) == [Accepted(first, duplicate=False, found=False)]
    again = message("m1", edited="other")
    other = message("m2")
    accepted = lab.publish(again, other, other)
    assert [each.duplicate for each in accepted] == [True, False, True]
    assert accepted[0] == Accepted(first, duplicate=True, found=True)
    assert lab.received() == [first, other]


def test_a_repeated_private_message_is_delivered_once(lab: Lab) -> None:
    """Its uuid is found in the logs of its users."""
    lab.connect("bob")
    assert [each.duplicate for each in lab.publish(private("p1", "bob"), private("p1", "bob"))] == [
        False,
        True,
    ]
    assert lab.received() == [private("p1", "bob")]


def test_the_same_uuid_in_another_channel_is_another_message(lab: Lab) -> None:
    """A uuid is unique within its channel, or within its user's private messages."""
    lab.connect("ann", "a", "b")
    assert [each.duplicate for each in lab.publish(message("m1"), message("m1", channel="b"))] == [
        False,
        False,
    ]


def test_edits_and_deletions_return_whether_the_message_is_kept(lab: Lab) -> None:
    """They are delivered in both cases: the application is the authority."""
    lab.connect("ann", "a", "b")
    lab.publish(message("m1"))
    events = [
        MessageEdited(uuid="m1", channel="a", edited="t"),
        MessageDeleted(uuid="m1", channel="a"),
        MessageEdited(uuid="unknown", channel="a", edited="t"),
        MessageDeleted(uuid="m1", channel="b"),
    ]
    accepted = lab.publish(*events)
    assert [(each.found, each.duplicate) for each in accepted] == [
        (True, False),
        (True, False),
        (False, False),
        (False, False),
    ]
    assert lab.in_order(lab.received()) == lab.in_order([message("m1"), *events])


def test_a_message_to_an_unknown_channel_is_accepted_and_not_kept(lab: Lab) -> None:
    """It creates no channel."""
    (accepted,) = lab.publish(message("m1", channel="nowhere"))
    assert accepted == Accepted(message("m1", channel="nowhere"), duplicate=False, found=False)
    assert lab.channels() == []


# -- replaying


def test_a_replay_returns_what_followed_across_channels_in_order(lab: Lab) -> None:
    """Each channel from its own offset on, private messages under their name, nothing else."""
    lab.connect("ann", "a", "b", "c")
    lab.publish(message("a1"), message("b1", channel="b"), private("p1", "ann"), message("c1", channel="c"))
    numbers = {entry.event.uuid: entry.offset for entry in lab.received_entries()}
    lab.publish(message("b2", channel="b"), private("p2", "bob"), message("a2"))
    replay = lab.replay("ann", a=0, b=numbers["b1"], private=0)
    wanted = [message("a1"), private("p1", "ann"), message("b2", channel="b"), message("a2")]
    assert lab.in_order(entry.event for entry in replay.entries) == lab.in_order(wanted)
    assert (replay.lost, lab.read_whole(replay)) == (frozenset(), True)
    assert uuids(lab.replay("ann", a=numbers["a1"])) == ["a2"]


def test_a_replay_from_the_head_is_empty_and_loses_nothing(lab: Lab) -> None:
    """A client that received everything misses nothing."""
    lab.connect("ann", "a")
    lab.publish(message("m1"))
    replay = lab.replay("ann", a=lab.head("a"), private=lab.head("ann"))
    assert (replay.entries, replay.lost, lab.read_whole(replay)) == ([], frozenset(), True)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_long_replay_is_read_in_chunks(lab: Lab, limit: int) -> None:
    """Repeated from `read_to` until that is the head, it returns every event once, in order."""
    lab.connect("ann", "a", "b")
    found: list[Event] = []
    events = [message(f"m{number}", channel="ab"[number % 2]) for number in range(7)]
    lab.publish(*events)
    read_to, head = (0,) * len(lab.engine.position.offsets), lab.engine.position.offsets
    while read_to != head:
        replay = lab.replay("ann", limit, a=lab.number(read_to, "a"), b=lab.number(read_to, "b"))
        assert len(replay.entries) <= limit * len(head)
        assert max_offsets(replay.read_to, read_to) == replay.read_to != read_to
        found += [entry.event for entry in replay.entries]
        read_to = replay.read_to
    assert lab.in_order(found) == lab.in_order(events)


def test_a_replay_of_no_entries_reports_lost_channels(lab: Lab) -> None:
    """With a limit of 0 nothing is read, and `read_to` is the start."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), message("m2"))
    replay = lab.replay("ann", 0, a=start, unknown=start)
    assert (replay.entries, replay.lost) == ([], frozenset({"unknown"}))
    assert lab.number(replay.head) == lab.head()
    assert lab.number(replay.read_to) < lab.numbers()[0]


def test_a_trimmed_entry_is_lost_and_not_replayed(open_lab: Callable[..., Lab]) -> None:
    """A channel is recovered completely or not at all; the others are not affected."""
    lab = open_lab(limits=RegistryLimits(log_events=2, user_log_events=1))
    lab.connect("ann", "a", "b")
    lab.publish(message("b1", channel="b"), private("p1", "ann"), private("p2", "ann"))
    lab.publish(*(message(f"m{number}") for number in range(3)))
    replay = lab.replay("ann", a=0, b=0, private=0)
    assert (uuids(replay), replay.lost) == (["b1"], frozenset({"a", PRIVATE}))
    trimmed = lab.numbers()[3]
    assert uuids(lab.replay("ann", a=trimmed)) == ["m1", "m2"]


def test_an_expired_entry_is_lost(open_lab: Callable[..., Lab]) -> None:
    """Without any call in between: a replay checks the age."""
    lab = open_lab(limits=RegistryLimits(log_age_s=60.0))
    lab.connect("ann", "a")
    lab.publish(message("m1"))
    lab.clock.passed_s += 60.0
    assert uuids(lab.replay("ann", a=0)) == ["m1"]
    lab.clock.passed_s += 0.5
    assert lab.replay("ann", a=0).lost == {"a"}
    assert lab.replay("ann", a=lab.head()).lost == frozenset()


def test_unknown_channels_and_users_are_lost(lab: Lab) -> None:
    """A name without a log proves nothing."""
    assert lab.replay("nobody", private=0, unknown=0).lost == {PRIVATE, "unknown"}


def test_a_position_without_proof_loses_everything(lab: Lab) -> None:
    """A start of -1, for a position of another epoch, is below every floor."""
    lab.connect("ann", "a")
    assert lab.replay("ann", a=-1, private=-1).lost == {"a", PRIVATE}


def test_a_channel_without_log_proves_only_its_head(lab: Lab) -> None:
    """With log_events of 0 every event is lost to a client that did not receive it."""
    lab.connect("ann", "a", log_events=0)
    before = lab.head()
    lab.publish(message("m1"))
    assert lab.replay("ann", a=before).lost == {"a"}
    assert lab.replay("ann", a=lab.head()).lost == frozenset()


def test_a_new_channel_has_lost_earlier_messages(lab: Lab) -> None:
    """Events before its creation cannot be proven."""
    lab.publish(message("m1"))
    before = lab.head() - 1
    lab.connect("ann", "a")
    assert lab.replay("ann", a=before).lost == {"a"}


# -- edits and deletions


def edit(
    uuid: str = "m1", payload: bytes | None = b'"new"', channel: str | None = "a", **rest: Any
) -> MessageEdited:
    return MessageEdited(uuid=uuid, channel=channel, edited="e", payload=payload, **rest)


def delete(uuid: str = "m1", channel: str | None = "a", **rest: Any) -> MessageDeleted:
    return MessageDeleted(uuid=uuid, channel=channel, **rest)


def texts(replay: Replay) -> list[Any]:
    """Return the texts of a replay: the payload of each message or edit, the uuid of each deletion."""
    return [getattr(entry.event, "payload", entry.event.uuid) for entry in replay.entries]


def outcomes(accepted: Iterable[Accepted]) -> list[tuple[bool, bool]]:
    return [(each.duplicate, each.found) for each in accepted]


def test_a_deleted_message_is_never_replayed(lab: Lab) -> None:
    """Only its deletion is, from every start; the entries around it are replayed, and nothing is lost."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m0"), message("m1"), message("m2"))
    seen = lab.numbers()
    lab.publish(edit(), delete())
    assert uuids(lab.replay("ann", a=start)) == ["m0", "m2", "m1"]
    assert [entry.offset for entry in lab.replay("ann", a=start).entries] == [seen[0], seen[2], lab.head()]
    for begin, rest in (
        (seen[0], ["m2", "m1"]),
        (seen[1], ["m2", "m1"]),
        (seen[2], ["m1"]),
        (lab.head(), []),
    ):
        replay = lab.replay("ann", a=begin)
        assert (uuids(replay), replay.lost, lab.read_whole(replay)) == (rest, frozenset(), True)
    assert texts(lab.replay("ann", a=seen[2])) == ["m1"]


def test_an_edited_message_is_replayed_in_its_current_form(lab: Lab) -> None:
    """At its old offset; a client with the older text is sent one edit with all the changes."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), message("m2"))
    seen = lab.numbers()
    lab.publish(edit(user="eve"), edit(payload=b'"newer"'))
    replay = lab.replay("ann", a=start)
    assert texts(replay) == [b'"newer"', b'"hi"', b'"newer"']
    first, last = replay.entries[0].event, replay.entries[2].event
    assert first == Message(uuid="m1", channel="a", user="eve", payload=b'"newer"', timestamp="t", edited="e")
    assert last == MessageEdited(uuid="m1", channel="a", user="eve", payload=b'"newer"', edited="e")
    assert [entry.offset for entry in replay.entries] == [*seen, lab.head()]
    assert texts(lab.replay("ann", a=seen[0])) == [b'"hi"', b'"newer"']
    assert lab.received()[2:] == [edit(user="eve"), edit(payload=b'"newer"')]


def test_private_messages_are_edited_and_deleted_as_well(lab: Lab) -> None:
    """In the log of each of their users."""
    lab.connect("ann")
    lab.connect("bob")
    users = frozenset({"ann", "bob"})
    lab.publish(private("p1", "ann", "bob"), private("p2", "ann", "bob"))
    lab.publish(edit("p1", channel=None, only=users), delete("p2", channel=None, only=users))
    for user in users:
        replay = lab.replay(user, private=0)
        assert texts(replay) == [b'"new"', b'"new"', "p2"]
        assert replay.lost == frozenset()


def test_a_change_for_some_leaves_the_others_what_they_have(lab: Lab) -> None:
    """In private messages and in channels: recipients of the change are sent the newest text, or nothing."""
    lab.connect("ann", "a")
    lab.connect("bob", "a")
    bob = frozenset({"bob"})
    lab.publish(*(private(f"p{number}", "ann", "bob") for number in range(2)), message("m0"), message("m1"))
    lab.publish(edit("p0", channel=None, only=bob), delete("p1", channel=None, only=bob))
    lab.publish(edit("m0", only=bob), delete("m1", only=bob))
    assert texts(lab.replay("ann", private=0)) == [b'"hi"', b'"hi"']
    assert set(texts(lab.replay("bob", private=0))) == {b'"new"', "p1"}
    for user, received in (("ann", [b'"hi"', b'"hi"']), ("bob", [b'"new"', "m1"])):
        entries = [entry for entry in lab.replay(user, a=0).entries if entry.event.is_for(user, IF_ANNOUNCED)]
        assert [getattr(entry.event, "payload", entry.event.uuid) for entry in entries] == received
    both = frozenset({"ann", "bob"})
    lab.publish(delete("p0", channel=None, only=both), delete("m0"), delete("m1"))
    assert set(texts(lab.replay("bob", private=0))) == {"p0", "p1"}
    assert set(texts(lab.replay("ann", private=0))) == {b'"hi"', "p0"}
    assert set(texts(lab.replay("ann", a=0))) == {"m0", "m1"}


def test_a_user_excluded_from_a_change_is_not_sent_the_superseded_message(lab: Lab) -> None:
    """It has made the change itself, and another page of it must not get the old text."""
    lab.connect("ann", "a")
    lab.connect("bob")
    ann, both = frozenset({"ann"}), frozenset({"ann", "bob"})
    lab.publish(message("m1"), message("m2"), private("p1", "ann", "bob"))
    lab.publish(edit(exclude=ann), delete("m2", exclude=ann))
    lab.publish(delete("p1", channel=None, only=both, exclude=ann))
    received = [
        entry
        for entry in lab.replay("ann", a=0, private=0).entries
        if entry.event.is_for("ann", IF_ANNOUNCED)
    ]
    assert [getattr(entry.event, "payload", None) for entry in received] == [b'"new"']
    assert texts(lab.replay("bob", private=0)) == ["p1"]


def test_a_deleted_message_is_no_longer_found(lab: Lab) -> None:
    """A second deletion is delivered; an edit is not, nor is the message when it is published again."""
    lab.connect("ann", "a", store_history=True)
    lab.publish(message("m1"), delete())
    before = len(lab.received())
    accepted = lab.publish(delete(), edit(), message("m1"))
    assert outcomes(accepted) == [(False, False), (True, False), (True, False)]
    assert accepted[2].event == message("m1")
    assert lab.received()[before:] == [delete()]
    assert uuids(lab.replay("ann", a=0)) == ["m1"]
    assert lab.channel("a").history.entries == []


def test_private_messages_that_were_deleted_are_not_found_either(lab: Lab) -> None:
    """By the logs of their users."""
    lab.connect("ann")
    ann = frozenset({"ann"})
    lab.publish(private("p1", "ann"), delete("p1", channel=None, only=ann))
    accepted = lab.publish(
        delete("p1", channel=None, only=ann), edit("p1", channel=None, only=ann), private("p1", "ann")
    )
    assert outcomes(accepted) == [(False, False), (True, False), (True, False)]
    assert texts(lab.replay("ann", private=0)) == ["p1"]


def test_a_message_repeated_after_an_edit_is_answered_in_its_current_form(lab: Lab) -> None:
    """Whether the log has it, only the history, or only the edit."""
    lab.connect("ann", "a", store_history=True, log_events=2)
    present = Message(uuid="m1", channel="a", user="ann", payload=b'"new"', timestamp="t", edited="e")
    lab.publish(message("m1"), edit())
    assert lab.publish(message("m1")) == [Accepted(present, duplicate=True, found=True)]
    lab.publish(message("m2"))
    lab.configure("a", store_history=False)
    assert lab.publish(message("m1")) == [Accepted(present, duplicate=True, found=True)]
    lab.configure("a", store_history=True)
    lab.publish(message("m3"), edit("m3"), message("m4"), message("m5"))
    edited = Message(uuid="m3", channel="a", user="ann", payload=b'"new"', timestamp="t", edited="e")
    assert lab.publish(message("m3")) == [Accepted(edited, duplicate=True, found=True)]


def test_the_same_message_for_further_users_reaches_them(lab: Lab) -> None:
    """And no user twice; private messages, and those for some users of a channel."""
    for user in ("ann", "bob"):
        lab.connect(user, "a")
    lab.publish(private("p1", "ann"), message("m1", only=frozenset({"ann"})))
    before = len(lab.received())
    both = frozenset({"ann", "bob"})
    again = [private("p1", "ann", "bob"), message("m1", only=both)]
    assert [each.duplicate for each in lab.publish(*again)] == [False, False]
    new = lab.received()[before:]
    assert [event.only for event in new] == [{"bob"}, {"bob"}]
    assert [each.duplicate for each in lab.publish(*again)] == [True, True]
    assert uuids(lab.replay("bob", private=0)) == ["p1"]
    assert uuids(lab.replay("ann", private=0)) == ["p1"]
    lab.publish(message("m1"))
    [last] = lab.received()[-1:]
    assert last.exclude == both
    lab.publish(delete(), delete("p1", channel=None, only=both))
    assert uuids(lab.replay("ann", a=0)) == ["m1"]
    assert texts(lab.replay("bob", private=0)) == ["p1"]


def test_compacted_entries_make_room_in_the_log(open_lab: Callable[..., Lab]) -> None:
    """A log of three entries has the current form of a message, not the earlier ones."""
    lab = open_lab(limits=RegistryLimits(log_events=3, user_log_events=3))
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), message("m2"))
    for _ in range(5):
        lab.publish(edit())
    lab.publish(delete())
    assert uuids(lab.replay("ann", a=start)) == ["m2", "m1"]
    assert lab.replay("ann", a=start).lost == frozenset()
    lab.publish(message("m3"), message("m4"))
    assert lab.replay("ann", a=start).lost == {"a"}
    assert uuids(lab.replay("ann", a=lab.numbers()[1])) == ["m1", "m3", "m4"]


def test_a_trimmed_message_can_be_deleted_and_published_again(open_lab: Callable[..., Lab]) -> None:
    """A trimmed message is not found, and no older form of it prevents either."""
    lab = open_lab(limits=RegistryLimits(log_events=2))
    lab.connect("ann", "a")
    lab.publish(message("m1"), edit(), message("m2"))
    lab.publish(message("m3"))
    assert outcomes(lab.publish(edit(), delete())) == [(False, False), (False, False)]
    assert uuids(lab.replay("ann", a=lab.head() - 2)) == ["m1"]
    lab.publish(message("m4"), message("m5"))
    assert outcomes(lab.publish(message("m1"))) == [(False, False)]


@pytest.mark.parametrize("limit", [1, 2])
def test_positions_stay_valid_where_entries_are_gone(lab: Lab, limit: int) -> None:
    """A read in chunks gets each current form once, whatever left the log in between."""
    lab.connect("ann", "a")
    read_to = lab.head()
    lab.publish(*(message(f"m{number}") for number in range(6)))
    lab.publish(delete("m1"), delete("m2"), edit("m4"), delete("m5"))
    found: list[str] = []
    while read_to != lab.head():
        replay = lab.replay("ann", limit, a=read_to)
        assert replay.lost == frozenset()
        assert lab.number(replay.read_to) > read_to
        found += uuids(replay)
        read_to = lab.number(replay.read_to)
    assert found == ["m0", "m3", "m4", "m1", "m2", "m4", "m5"]


def test_a_change_of_a_message_only_in_the_history_is_shown(lab: Lab) -> None:
    """The log has forgotten the message."""
    lab.connect("ann", "a", store_history=True, log_events=1)
    lab.publish(message("m1"), message("m2"), message("m3"))
    assert outcomes(lab.publish(edit(), delete("m2"))) == [(False, True), (False, True)]
    shown = [getattr(entry.event, "payload", b"") for entry in lab.channel("a").history.entries]
    assert shown == [b'"new"', b'"hi"']
    assert outcomes(lab.publish(delete("m2"))) == [(False, False)]


def newest(events: Iterable[Event], uuid: str, user: str) -> bytes | None:
    """Return the text of a message that a user may be sent after these events; None: no text."""
    text = None
    for event in events:
        if event.uuid == uuid and event.is_for(user, IF_ANNOUNCED):
            text = None if isinstance(event, MessageDeleted) else getattr(event, "payload", None) or text
    return text


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_never_has_a_superseded_text(lab: Lab, seed: int) -> None:
    """Of any messages, edits and deletions, for all or for some: the newest text of each, or none."""
    chance = random.Random(seed)
    users = ("ann", "bob", "cid")
    for user in users:
        lab.connect(user, "a", store_history=True, history_size=1000)
    known: list[Message] = []
    for number in range(60):
        private_one = chance.random() < 0.4
        some = frozenset(chance.sample(users, chance.randint(1, 3)))
        only = some if private_one or chance.random() < 0.2 else None
        fresh = message(f"m{number}", None if private_one else "a", only=only)
        text = b'"%d"' % number
        if not known or chance.random() < 0.4:
            known.append(msgspec.structs.replace(fresh, payload=text))
            event: Event = known[-1]
        else:
            about = chance.choice(known)
            narrow = about.only if about.channel is None or chance.random() < 0.7 else only
            if about.channel is None and chance.random() < 0.3:
                narrow = some
            place: dict[str, Any] = {"channel": about.channel, "only": narrow}
            event = chance.choice((edit(about.uuid, text, **place), delete(about.uuid, **place), about))
        lab.publish(event)
    accepted = lab.received()
    for user in users:
        replay = lab.replay(user, a=0, private=0)
        assert replay.lost == frozenset()
        sent = [entry.event for entry in replay.entries if entry.event.is_for(user, IF_ANNOUNCED)]
        for event in sent:
            if not isinstance(event, MessageDeleted):
                assert getattr(event, "payload", None) == newest(accepted, event.uuid, user), event
        for each in known:
            if (text := newest(accepted, each.uuid, user)) is not None:
                assert text in [getattr(event, "payload", None) for event in sent if event.uuid == each.uuid]
    for entry in lab.channel("a").history.entries:
        whole = [event for event in accepted if event.only is None]
        assert getattr(entry.event, "payload", b"") == newest(whole, entry.event.uuid, "")


# -- presence


def test_a_user_joins_and_leaves_once(lab: Lab) -> None:
    """With its first and its last connection in the channel, where notify_presence is on."""
    lab.connect("bob", "a", notify_presence=True)
    one = lab.connect("ann", "a", conn_id="1")
    two = lab.connect("ann", "a", conn_id="2")
    lab.disconnect(one, "a")
    lab.leave(two, "a")
    announced = [(each.user, each.joined) for each in lab.received() if isinstance(each, Presence)]
    assert announced == [("bob", True), ("ann", True), ("ann", False)]
    assert lab.channel("a").users == {"bob": 1}


def test_presence_is_silent_unless_wanted(lab: Lab) -> None:
    """A channel without notify_presence and without connections that always receive presence announces nothing."""
    lab.disconnect(lab.connect("ann", "a"), "a")
    assert lab.received() == []


def test_presence_is_for_always_connections_where_it_is_not_notified(lab: Lab) -> None:
    """They always receive it, the others do not."""
    lab.connect("old", "a", protocol=SEED)
    lab.connect("ann", "a")
    event = lab.received()[-1]
    assert isinstance(event, Presence)
    assert (event.user, event.announced) == ("ann", False)
    assert event.is_for("old", ALWAYS)
    assert not event.is_for("old", IF_ANNOUNCED)


@pytest.mark.parametrize("ends", [False, True])
def test_a_channel_is_silent_again_without_always_connections(lab: Lab, ends: bool) -> None:
    """Whether the last one that always receives presence leaves the channel, or ends."""
    members = [lab.connect("old", "a", protocol=SEED, conn_id=conn_id) for conn_id in ("1", "2")]
    lab.connect("bob", "a")
    assert lab.channel("a").always_connections == 2
    for member in members:
        if ends:
            lab.disconnect(member, "a")
        else:
            lab.leave(member, "a")
    assert lab.channel("a").always_connections == 0
    before = len(lab.received())
    lab.connect("ann", "a")
    assert len(lab.received()) == before


def test_presence_carries_user_lists_where_asked_for(lab: Lab) -> None:
    """All members of the channel at that moment, with public state."""
    lab.connect("bob", "a", notify_presence=True, broadcast_presence_with_user_lists=True)
    lab.connect("ann", "a")
    event = lab.received()[-1]
    assert isinstance(event, Presence)
    assert dict(event.users) == {"bob": {}, "ann": {}}


def test_presence_is_in_the_log_like_any_event(lab: Lab) -> None:
    """A client that resumes receives the joins and leaves."""
    lab.connect("bob", "a", notify_presence=True)
    start = lab.head()
    lab.disconnect(lab.connect("ann", "a"), "a")
    replay = lab.replay("bob", a=start)
    assert [entry.event for entry in replay.entries] == lab.received()[-2:]


# -- users


def test_fresh_state_is_for_new_users_only(lab: Lab) -> None:
    """`state` of the request applies to known users too and counts as a change."""
    member = Member("1", "ann", V07)
    update = UserUpdate({"status": 1}, {"mood": "new", "status": 0}, ["status"])
    change = lab.run(lab.engine.connect(member, update))
    assert change.changed == [("status", 1)]
    assert lab.user("ann").state == {"mood": "new", "status": 1}
    other = Member("2", "ann", V07)
    lab.run(lab.engine.connect(other, UserUpdate({}, {"mood": "newer"})))
    assert lab.user("ann").state == {"mood": "new", "status": 1}
    assert lab.user("ann").public_state == {"status": 1}


def test_public_keys_stay_unless_given(lab: Lab) -> None:
    """None keeps them, a list replaces them, an addition adds."""
    lab.connect("ann")

    def keys(update: UserUpdate) -> tuple[str, ...]:
        change = lab.run(lab.engine.update_user("ann", update))
        assert change is not None
        return change.user.public_keys

    assert keys(UserUpdate({}, {}, ["a", "b"])) == ("a", "b")
    assert keys(UserUpdate({}, {}, None)) == ("a", "b")
    assert keys(UserUpdate({}, {}, None, ["status", "a"])) == ("a", "b", "status")
    assert keys(UserUpdate({}, {}, [])) == ()


def test_a_change_of_public_state_is_announced_where_notify_state_is_on(lab: Lab) -> None:
    """Once per channel of the user, with the public part of what changed."""
    lab.connect("ann", "a", "b", notify_state=True)
    lab.join(Member("of-ann", "ann", V07), "quiet")
    update = UserUpdate({"mood": 1, "secret": 2}, {}, ["mood"])
    change = lab.run(lab.engine.update_user("ann", update))
    assert change is not None
    assert change.changed == [("mood", 1), ("secret", 2)]
    announced = [each for each in lab.received() if isinstance(each, UserStateChanged)]
    assert [(each.channel, each.state, each.changed) for each in announced] == [
        ("a", {"mood": 1}, (("mood", 1),)),
        ("b", {"mood": 1}, (("mood", 1),)),
    ]


def test_a_private_or_empty_change_is_not_announced(lab: Lab) -> None:
    """Private keys, the same value again, null for an unknown key, a key made public that has no value."""
    lab.connect("ann", "a", notify_state=True)
    for update in (
        UserUpdate({"secret": 1}, {}),
        UserUpdate({"secret": 1, "unknown": None}, {}, ["valueless"]),
    ):
        lab.run(lab.engine.update_user("ann", update))
    assert lab.received() == []
    assert lab.user("ann").state == {"secret": 1}


def test_a_change_of_the_public_keys_is_announced(lab: Lab) -> None:
    """A key that becomes public with its value, one that is hidden as null, by `connect` as well."""
    lab.connect("ann", "a", notify_state=True)
    lab.run(lab.engine.update_user("ann", UserUpdate({"mood": 1, "secret": 2}, {}, ["mood"])))
    lab.run(lab.engine.update_user("ann", UserUpdate({}, {}, ["secret"])))
    lab.run(lab.engine.connect(Member("2", "ann", V07), UserUpdate({}, {}, None, ["mood"])))
    announced = [each for each in lab.received() if isinstance(each, UserStateChanged)]
    assert [(each.state, each.changed) for each in announced] == [
        ({"mood": 1}, (("mood", 1),)),
        ({"secret": 2}, (("mood", None), ("secret", 2))),
        ({"secret": 2, "mood": 1}, (("mood", 1),)),
    ]


def test_one_and_true_are_different_values(lab: Lab) -> None:
    """1 and true are different in JSON."""
    lab.connect("ann", "a", notify_state=True)
    lab.run(lab.engine.update_user("ann", UserUpdate({"flag": 1}, {}, ["flag"])))
    lab.run(lab.engine.update_user("ann", UserUpdate({"flag": True}, {})))
    assert len(lab.received()) == 2
    assert lab.user("ann").state["flag"] is True


def test_state_set_by_connect_is_announced(lab: Lab) -> None:
    """A second connection that changes public state is announced in the channels of the first."""
    lab.connect("ann", "a", notify_state=True)
    update = UserUpdate({"mood": 1}, {}, ["mood"])
    lab.run(lab.engine.connect(Member("2", "ann", V07), update))
    (event,) = lab.received()
    assert isinstance(event, UserStateChanged)
    assert event.changed == (("mood", 1),)


def test_a_state_that_grows_too_large_is_refused_whole(lab: Lab) -> None:
    """Nothing is stored, announced or registered: neither an update nor a connection."""
    lab.connect("ann", "a", notify_state=True)
    too_much = UserUpdate({f"k{number}": number for number in range(MAX_STATE_KEYS + 1)}, {}, ["k1"])
    with pytest.raises(Invalid):
        lab.run(lab.engine.update_user("ann", too_much))
    for name in ("ann", "new"):
        with pytest.raises(Invalid):
            lab.run(lab.engine.connect(Member("2", name, V07), too_much))
    (user,) = lab.users()
    assert (user.state, user.public_keys, user.connections, lab.received()) == ({}, (), 1, [])


def test_a_state_of_too_many_bytes_is_refused_whole(lab: Lab) -> None:
    """Keys and values count as JSON, together with those there are."""
    lab.connect("ann", "a", notify_state=True)
    lab.run(lab.engine.update_user("ann", UserUpdate({"half": "x" * (MAX_STATE_BYTES // 2)}, {})))
    more = UserUpdate({"more": "\u00e9" * (MAX_STATE_BYTES // 4)}, {}, ["more"])
    with pytest.raises(Invalid, match="bytes"):
        lab.run(lab.engine.update_user("ann", more))
    with pytest.raises(Invalid, match="bytes"):
        lab.run(lab.engine.connect(Member("2", "ann", V07), more))
    assert (sorted(lab.user("ann").state), lab.user("ann").connections, lab.received()) == (["half"], 1, [])
    lab.run(lab.engine.update_user("ann", UserUpdate({"half": None} | dict(more.values), {}, ["more"])))
    assert sorted(lab.user("ann").state) == ["more"]


def test_a_large_state_is_announced_in_every_channel(lab: Lab) -> None:
    """Also with concurrent changes: each channel is sent no change twice, and the newest state last."""
    channels = [f"c{number}" for number in range(60)]
    lab.connect("ann", *channels, notify_state=True)
    large = UserUpdate({"large": "x" * 40_000}, {}, ["large", "mood"])

    async def both() -> None:
        moods = [lab.engine.update_user("ann", UserUpdate({"mood": mood}, {})) for mood in (1, 2)]
        await asyncio.gather(lab.engine.update_user("ann", large), *moods)

    lab.run(both())
    announced: dict[str | None, list[UserStateChanged]] = {}
    for event in lab.received():
        assert isinstance(event, UserStateChanged)
        announced.setdefault(event.channel, []).append(event)
    assert sorted(name or "" for name in announced) == sorted(channels)
    newest = lab.user("ann").public_state
    assert sorted(newest) == ["large", "mood"]
    for events in announced.values():
        assert events[-1].state == newest
        assert len({event.changed for event in events}) == len(events)


def test_a_null_removes_a_key_and_makes_room(lab: Lab) -> None:
    """Public ones too, which is announced; below its bound again, a state takes new keys."""
    lab.connect("ann", "a", notify_state=True)
    full: dict[str, Any] = {f"k{number}": number for number in range(MAX_STATE_KEYS)}
    lab.run(lab.engine.update_user("ann", UserUpdate(full, {}, ["k0", "k1"])))
    removal = UserUpdate({"k0": None, "new": 1, "unknown": None}, {})
    change = lab.run(lab.engine.update_user("ann", removal))
    assert change is not None
    assert change.changed == [("k0", None), ("new", 1)]
    event = lab.received()[-1]
    assert isinstance(event, UserStateChanged)
    assert (event.state, event.changed) == ({"k1": 1}, (("k0", None),))
    user = lab.user("ann")
    assert "k0" not in user.state
    assert len(user.state) == MAX_STATE_KEYS
    lab.run(lab.engine.connect(Member("2", "ann", V07), UserUpdate({"k1": None}, {})))
    assert (lab.user("ann").public_state, len(lab.user("ann").state)) == ({}, MAX_STATE_KEYS - 1)


def test_an_unknown_user_is_not_made_by_an_update(lab: Lab) -> None:
    """The answer is None, and no user is created."""
    assert lab.run(lab.engine.update_user("nobody", EMPTY)) is None
    assert lab.users() == []


# -- channels


def test_settings_apply_to_new_channels_only(lab: Lab) -> None:
    """Joining a known channel leaves it as it is."""
    lab.connect("ann", "a", history_size=3)
    lab.connect("bob", "a", history_size=5)
    assert lab.channel("a").settings.history_size == 3


def test_configuring_keeps_settings_not_named(lab: Lab) -> None:
    """Known channels change in the named settings, unknown ones are created."""
    lab.configure("a", notify_presence=True)
    lab.configure("a", history_size=3)
    settings = lab.channel("a").settings
    assert (settings.notify_presence, settings.history_size) == (True, 3)


def test_configuring_keeps_what_the_new_settings_keep(lab: Lab) -> None:
    """A change of settings drops nothing that is neither too old nor too much by the new ones."""
    lab.connect("ann", "a")
    lab.publish(message("m0"), message("m1"))
    lab.configure("a", notify_state=True)
    assert uuids(lab.replay("ann", a=0)) == ["m0", "m1"]


def test_history_shows_the_last_messages_in_their_current_form(lab: Lab) -> None:
    """Edited ones with their new text, without deleted ones, at most as many as the channel shows."""
    lab.connect("ann", "a", store_history=True, history_size=3)
    lab.publish(*(message(f"m{number}") for number in range(5)))
    lab.publish(
        MessageEdited(uuid="m3", channel="a", edited="t", payload=b'"ho"'),
        MessageDeleted(uuid="m4", channel="a"),
    )
    shown = [entry.event for entry in lab.channel("a").history.entries]
    assert shown == [
        message("m2"),
        Message(uuid="m3", channel="a", user="ann", payload=b'"ho"', timestamp="t", edited="t"),
    ]


def test_a_history_of_size_zero_shows_nothing(lab: Lab) -> None:
    """0 means none, not any number."""
    lab.connect("ann", "a", store_history=True, history_size=0)
    lab.publish(message("m1"))
    assert lab.channel("a").history.entries == []
    assert uuids(lab.replay("ann", a=0)) == ["m1"]


def test_counts_follow_connections(lab: Lab) -> None:
    """Of channels and of users, through joining, leaving and disconnecting."""
    one = lab.connect("ann", "a", "b", conn_id="1")
    lab.connect("ann", "a", conn_id="2")
    assert (lab.channel("a").connections, lab.channel("a").users) == (2, {"ann": 2})
    assert (lab.user("ann").connections, lab.user("ann").channels) == (2, {"a", "b"})
    lab.leave(one, "b")
    lab.disconnect(one, "a")
    assert (lab.channel("a").connections, lab.channel("b").connections) == (1, 0)
    assert (lab.user("ann").connections, lab.user("ann").channels) == (1, {"a"})


def test_many_disconnecting_users_leave_once_each(lab: Lab) -> None:
    """Each with its own offset, in whichever events; a user with another connection there has not left."""
    stays = lab.connect("stays", "a", "b", notify_presence=True)
    lab.connect("ann", "a", conn_id="another of ann")
    names = [f"user {number}" for number in range(5)] + ["ann"]
    crowd = [lab.connect(name, "a", "b") for name in names]
    before = lab.head()
    lab.disconnect_all(crowd, "a", "b")
    parted = [
        (single.event.channel, *single.event.about, single.offset)
        for entry in lab.recorder.entries
        for single in entry.split()
        if isinstance(single.event, Presence) and not single.event.joined
    ]
    assert sorted(each[:2] for each in parted) == sorted(
        [("a", name) for name in names[:-1]] + [("b", name) for name in names]
    )
    assert (lab.channel("a").users, lab.channel("b").users) == ({"stays": 1, "ann": 1}, {"stays": 1})
    assert {user.name: user.connections for user in lab.users(*names)} == {
        **dict.fromkeys(names[:-1], 0),
        "ann": 1,
    }
    of_a = [offset for channel, _, offset in parted if channel == "a"]
    for number, offset in enumerate([before, *of_a]):  # Whichever of them a client has received last.
        rest = [s.offset for e in lab.replay("stays", a=offset).entries for s in e.split()]
        assert rest == of_a[number:]
    lab.disconnect_all([stays], "a", "b")
    assert lab.channel("a").connections == 1
    lab.run(lab.engine.disconnect_all([]))


def test_a_read_that_ends_before_a_batched_leave_continues_with_all_of_it(lab: Lab) -> None:
    """For every size of a read."""
    lab.connect("stays", "a", notify_presence=True)
    crowd = [lab.connect(f"user {number}", "a") for number in range(4)]
    before = lab.head()
    lab.publish(message("m1"))
    lab.disconnect_all(crowd, "a")
    found, at, head = [], before, lab.head()
    while at < head:
        read = lab.replay("stays", 1, a=at)
        found += [single.offset for entry in read.entries for single in entry.split()]
        at = lab.number(read.read_to)
    assert found == sorted(set(found))
    assert len(found) == 5


def test_users_are_counted_without_listing_them(lab: Lab) -> None:
    """At a cost that does not grow with their number."""
    lab.connect("ann", "a", conn_id="1")
    lab.connect("ann", "a", conn_id="2")
    lab.connect("bob", "a")
    [counted] = lab.run(lab.engine.channels(["a"], with_users=False))
    assert (counted.user_count, counted.connections) == (2, 3)
    assert lab.channel("a").user_count == 2


def test_unknown_names_are_left_out_of_the_answer(lab: Lab) -> None:
    """Names of channels and users, in the order asked; None means all, an empty list none."""
    lab.connect("ann", "a", "b")
    lab.connect("bob")
    assert [channel.name for channel in lab.channels("b", "unknown", "a")] == ["b", "a"]
    assert {channel.name for channel in lab.channels()} == {"a", "b"}
    assert [user.name for user in lab.users("bob", "nobody")] == ["bob"]
    assert {user.name for user in lab.users()} == {"ann", "bob"}
    assert lab.run(lab.engine.channels([])) == []
    assert lab.run(lab.engine.users([])) == []


def test_the_states_of_members_are_found_by_their_channels(lab: Lab) -> None:
    """The current ones, with their public keys, in the order asked; unknown users are left out."""
    lab.connect("ann", "a", "b")
    lab.connect("bob", "a")
    lab.run(lab.engine.update_user("ann", UserUpdate({"mood": "fine", "key": 1}, {}, ["mood"])))
    states = lab.run(lab.engine.states({"bob": "a", "nobody": "a", "ann": "b"}))
    assert [(user.name, user.state, user.public_state) for user in states] == [
        ("bob", {}, {}),
        ("ann", {"mood": "fine", "key": 1}, {"mood": "fine"}),
    ]
    assert lab.run(lab.engine.states({})) == []


def test_the_head_of_some_shards_is_asked_for_by_names(lab: Lab) -> None:
    """The head covers the shards of these names, and leaves the others out."""
    lab.connect("ann", "a", "b")
    lab.run(lab.engine.publish([message("m1"), message("m2", channel="b")]))
    everything = lab.run(lab.engine.head())
    for name in ("a", "b"):
        assert lab.number(lab.run(lab.engine.head([name])).offsets, name) == lab.number(
            everything.offsets, name
        )
    assert lab.run(lab.engine.head([])).epochs == everything.epochs


def test_the_nodes_are_those_that_share_the_log(lab: Lab) -> None:
    """This one, once it has registered; none where the log cannot be shared."""
    assert len(lab.run(lab.engine.cluster.nodes())) <= int(not lab.engine.cluster.is_single)


# -- ageing


def test_idle_users_and_channels_are_forgotten_after_their_time(lab: Lab) -> None:
    """Users without connections first, then empty channels; connected users stay."""
    lab.connect("here", "kept")
    lab.disconnect(lab.connect("gone", "left"), "left")
    lab.collect(after_s=1000.0)
    assert {user.name for user in lab.users()} == {"here", "gone"}
    lab.collect(after_s=0.5)
    assert {user.name for user in lab.users()} == {"here"}
    assert {channel.name for channel in lab.channels()} == {"kept", "left"}
    lab.collect(after_s=1000.0)
    assert {channel.name for channel in lab.channels()} == {"kept"}


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_setting_the_wall_clock_changes_no_lifetime(lab: Lab, set_s: float) -> None:
    """Users and channels are forgotten after the time that has passed, whatever the clock on the wall says."""
    if not lab.engine.cluster.is_single:
        pytest.skip("its times are those of the service, which has no other clock")
    lab.disconnect(lab.connect("ann", "a"), "a")
    lab.clock.set_s += set_s
    lab.collect(after_s=1000.0)
    assert [user.name for user in lab.users()] == ["ann"]
    lab.collect(after_s=0.5)
    assert lab.users() == []
    lab.clock.set_s -= set_s
    lab.collect(after_s=999.5)
    assert [channel.name for channel in lab.channels()] == ["a"]
    lab.collect(after_s=0.5)
    assert lab.channels() == []


def test_a_touched_user_is_kept(lab: Lab) -> None:
    """A request about an idle user counts as activity."""
    lab.disconnect(lab.connect("ann"))
    lab.clock.passed_s += 900.0
    lab.run(lab.engine.update_user("ann", EMPTY))
    lab.collect(after_s=900.0)
    assert [user.name for user in lab.users()] == ["ann"]


def test_a_recreated_channel_is_a_new_one(lab: Lab) -> None:
    """The entries of the forgotten one are lost, never silently skipped."""
    lab.disconnect(lab.connect("ann", "a", history_size=3), "a")
    before = lab.head()
    lab.publish(message("m1"))
    lab.collect(after_s=2000.5)
    lab.connect("ann", "a")
    assert lab.channel("a").settings.history_size == 10
    assert lab.replay("ann", a=before).lost == {"a"}
