"""The laboratory of the conformance suite: an engine with a clock, a receiver and short calls."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import pytest
from msgspec.structs import replace

from channelstream.apps.keys import DEFAULT
from channelstream.apps.wanted_facts import AppFacts, WantedFacts
from channelstream.core.accepted import Accepted
from channelstream.core.channel import Channel
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
)
from channelstream.core.facts import Fact, kind_of
from channelstream.core.log import PRIVATE, Replay
from channelstream.core.node_status import NodeStatus
from channelstream.core.position import Offsets, shard_of
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import User, UserUpdate
from channelstream.engines.base import Engine
from channelstream.engines.members import Leaving, Member, Membership
from channelstream.engines.outbox import OutboxSettings
from channelstream.wire.channelstream import V07

T = TypeVar("T")
ALWAYS, IF_ANNOUNCED = PresenceAudience.ALWAYS, PresenceAudience.IF_ANNOUNCED
EMPTY = UserUpdate({}, {})
ALL_KINDS = frozenset(map(kind_of, get_args(Fact)))
ALL_FACTS = OutboxSettings(WantedFacts({DEFAULT: AppFacts(ALL_KINDS)}))
"""Keeps all facts about the default application."""


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
    """What an engine is made with: time, bounds, how long the unused is kept (seconds), and what its outbox keeps."""

    clock: MovedClock = field(default_factory=MovedClock)
    limits: RegistryLimits = field(default_factory=RegistryLimits)
    users_s: float = 1000.0
    channels_s: float = 2000.0
    outbox: OutboxSettings = field(default_factory=OutboxSettings)


class Recorder:
    """A receiver that keeps the entries it was given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.members: dict[str, tuple[Member, set[str]]] = {}
        self.gaps: list[tuple[list[str], list[str]]] = []
        self.renewals = 0
        self.dead: list[tuple[NodeStatus, int | None]] = []

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

    def node_died(self, node: NodeStatus, ended: int | None) -> None:
        self.dead.append((node, ended))

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
        """Return the events that the receiver was given so far, in order; edits as they were published."""
        return [
            replace(entry.event, early=False) if isinstance(entry.event, MessageEdited) else entry.event
            for entry in self.recorder.entries
        ]

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
        self.recorder.members[member.conn_id] = (member, set(channels))
        self.run(self.engine.connect(member, EMPTY, dict.fromkeys(channels, settings)))
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
def payloads_within_the_log() -> None:
    """Skips a test where every payload lies beside the log."""


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


async def at_once() -> None:
    """The node that holds a connection is not asked to leave it."""
