"""What an engine of one process must do that moves to another process: answer there as here.

It needs the fixture `processes`. The next process has another steady clock.
"""

import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from tests.engines.conformance.brief_channels import GUEST, SOON_S, names
from tests.engines.conformance.lab import Lab, Setup, delete, edit, message, outcomes, private
from tests.engines.conformance.outbox import fact_form, kept
from tests.engines.moves import Processes

from channelstream.apps.keys import DEFAULT
from channelstream.core.events import UsersLeft
from channelstream.core.log import PRIVATE, Replay
from channelstream.core.user import UserUpdate
from channelstream.engines.base import Engine
from channelstream.engines.members import Leaving, Member
from channelstream.engines.outbox import OutboxSettings, passed
from channelstream.engines.time_series import Record

USERS_S = Setup().users_s
Move = Callable[..., Lab]
"""Hands the state of the present lab over to the next process, and returns that one's lab; an argument is awaited when the
logs are copied and the rest is not."""


@pytest.fixture
def begun(processes: Processes) -> Lab:
    """Return the lab of the present process."""
    return processes.lab


@pytest.fixture
def move(processes: Processes) -> Move:
    return processes.move


@pytest.fixture
def stay(processes: Processes) -> Move:
    """Return what returns the present lab after a move of which nothing came."""
    return processes.stay


def form(replay: Replay) -> Any:
    entries = [(entry.offset, entry.position, entry.event) for entry in replay.entries]
    return entries, replay.lost, replay.read_to, replay.head


def test_records_by_time_move(begun: Lab, move: Move) -> None:
    """Also more than one record of the move has."""
    series = begun.engine.time_series
    records = [Record(float(at_s), b"%d" % at_s) for at_s in range(100)]
    for record in records:
        begun.run(series.append("minutes", record, 3600.0))
    lab = move()
    lab.run(lab.engine.time_series.append("minutes", Record(100.0, b"after"), 3600.0))
    assert lab.run(lab.engine.time_series.read("minutes", 0.0)) == [*records, (100.0, b"after")]


def test_the_outbox_moves(begun: Lab, move: Move) -> None:
    """Facts, cursors and numbers; nothing about who is connected, and what happens there is kept behind it."""
    for number in range(40):
        begun.connect(f"user{number}", "a", notify_presence=True)
    outbox = begun.engine.outbox
    before = kept(begun)
    cursor = passed(outbox.beginning, before[:5])
    begun.run(outbox.settle(1, {DEFAULT: {"one": cursor}}))
    lab = move()
    assert kept(lab) == before[5:]
    assert lab.run(lab.engine.outbox.cursors()) == {"one": cursor}
    ann = lab.connect("ann", "a")
    lab.disconnect(ann, "a")
    later = kept(lab, passed(cursor, before))
    assert [fact_form(each.fact)[0] for each in later if each.fact] == [
        "online", "opened", "added", "removed", "closed", "offline",
    ]  # fmt: skip
    assert len({each.number for each in before + later}) == len(before + later)


def test_the_outbox_ends_without_webhooks(begun: Lab, move: Move, processes: Processes) -> None:
    """Nobody would ever read it; a later process that has webhooks again does not send what was long ago."""
    begun.connect("ann", "a")
    assert kept(begun)
    processes.outbox = OutboxSettings()
    lab = move()
    assert kept(lab) == []
    assert lab.run(lab.engine.outbox.cursors()) == {}


def test_it_reads_as_before(begun: Lab, move: Move) -> None:
    """Messages, edits and deletions of channels and of users, from every offset, with what is lost."""
    begun.connect("ann", "a", "b", notify_presence=True, log_events=6)
    begun.connect("bob", "a")
    begun.publish(*[message(f"m{number}") for number in range(9)])
    begun.publish(edit("m7"), delete("m8"), message("alone", channel="b", only=frozenset(("ann",))))
    begun.publish(
        private("p1", "ann", "bob"),
        private("p2", "bob"),
        edit("p1", channel=None, only=frozenset(("ann", "bob"))),
    )
    before = [form(begun.replay(user, a=at, b=at, private=at)) for user in ("ann", "bob") for at in range(20)]
    position = begun.engine.position
    lab = move()
    assert lab.engine.position == position
    assert [
        form(lab.replay(user, a=at, b=at, private=at)) for user in ("ann", "bob") for at in range(20)
    ] == before


def test_what_changes_while_it_moves_is_there(begun: Lab, move: Move) -> None:
    """Also what is edited, deleted, dropped or forgotten after the logs were copied is nowhere as it was."""
    engine, before = begun.engine, list[Any]()
    begun.connect("ann", "a", "b", store_history=True, log_events=3)
    begun.publish(*[message(f"m{number}{channel}", channel) for number in range(3) for channel in "ab"])
    begun.publish(private("p1", "ann"), private("p2", "ann"))
    ann, bob = begun.recorder.members["of-ann"][0], begun.connect("bob", "c", log_events=5)
    del begun.recorder.members["of-bob"]
    begun.recorder.members["of-ann"][1].add("d")

    async def meanwhile() -> None:
        await engine.publish([edit("m2a"), delete("m1a"), message("m9"), message("new", "b")])
        await engine.publish([delete("p1", None, only=frozenset(("ann",)))])
        await engine.disconnect(bob, ["c"])
        await engine.configure({"b": {"store_history": False, "notify_presence": True}})
        await engine.join(ann, {"d": {}})
        before.append(await everything(engine))

    lab = move(meanwhile)
    assert [lab.run(everything(lab.engine))] == before
    assert {user.name: user.connections for user in lab.users()} == {"ann": 1, "bob": 0}


async def everything(engine: Engine) -> Any:
    """Return all that can be read."""
    names = ("a", "b", "d", PRIVATE)
    replays = [form(await engine.replay("ann", dict.fromkeys(names, at), 100)) for at in range(20)]
    channels = {
        each.name: (
            each.settings,
            each.users,
            [(entry.offset, entry.event) for entry in each.history.entries],
        )
        for each in await engine.channels(None)
    }
    return replays, channels, engine.position


def test_its_offsets_go_on(begun: Lab, move: Move) -> None:
    """In the same epoch, and a message that the log has is a duplicate."""
    begun.connect("ann", "a")
    begun.publish(message("m1"))
    head, lab = begun.head(), move()
    assert outcomes(lab.publish(message("m1"), message("m2"))) == [(True, True), (False, False)]
    assert (lab.head(), lab.numbers()) == (head + 1, [head + 1])


def test_what_is_older_than_a_loss_in_a_channel_is_known_there(begun: Lab, move: Move) -> None:
    """A message that is repeated then is no new one."""
    begun.connect("ann", "a")
    edits = edit(only=frozenset({"ann"})), edit(payload=None, user="eve")
    begun.publish(message("m0"), message("m1"), *edits)
    assert begun.replay("ann", a=0).lost == {"a"}
    moved = move()
    assert moved.replay("ann", a=0).lost == {"a"}
    assert outcomes(moved.publish(message("m0"))) == [(True, True)]


def test_users_and_channels_are_as_before(begun: Lab, move: Move) -> None:
    """Ids, settings, members, states and public keys, and histories, also of messages that the log has dropped."""
    begun.connect("ann", "a", store_history=True, history_size=2, log_events=1)
    begun.connect("bob", "a", conn_id="second")
    begun.connect("bob", "b")
    begun.configure("empty", notify_presence=True)
    begun.publish(message("m1"), message("m2"), message("m3"), edit("m3"))
    begun.run(begun.engine.update_user("ann", UserUpdate({"age": 7, "name": "A"}, {}, ["age"])))

    def state(lab: Lab) -> Any:
        channels = {
            each.name: (each.id, each.settings, each.users, each.connections, each.always_connections,
                        [entry.event for entry in each.history.entries])
            for each in lab.channels()
        }  # fmt: skip
        users = {
            each.name: (each.id, each.state, each.public_state, each.connections, each.channels)
            for each in lab.users()
        }
        return channels, users

    before = state(begun)
    assert state(move()) == before


def test_members_leave_as_before(begun: Lab, move: Move) -> None:
    """Nobody joins or leaves by the move; who leaves afterwards is announced once."""
    members = [begun.connect(user, "a", notify_presence=True) for user in ("ann", "bob", "cid")]
    lab = move()
    assert lab.received() == []
    lab.run(lab.engine.disconnect_all([Leaving(member, ["a"]) for member in members[1:]]))
    [left] = lab.received()
    assert isinstance(left, UsersLeft)
    assert left.about == ("bob", "cid")
    assert (lab.channel("a").users, lab.user("bob").connections) == ({"ann": 1}, 0)


def test_ages_count_on(begun: Lab, move: Move) -> None:
    """An event that was old here is as old there, and unused users and channels have the rest of their time."""
    begun.connect("ann", "a", log_age_s=100.0)
    begun.disconnect(begun.connect("bob", "b"), "b")
    begun.publish(message("m1"))
    begun.clock.passed_s += 60
    begun.publish(message("m2"))
    lab = move()
    lab.clock.passed_s += 60
    assert [entry.event.uuid for entry in lab.replay("ann", a=lab.head() - 1).entries] == ["m2"]
    assert lab.replay("ann", a=0).lost == {"a"}
    assert lab.replay("ann", a=lab.head() - 2).lost == {"a"}
    lab.collect(after_s=USERS_S - 60)
    assert {user.name for user in lab.users()} == {"ann"}


def test_a_brief_channel_is_brief_there(begun: Lab, move: Move) -> None:
    """Unless something happens in it after it was copied."""
    guest = begun.connect(GUEST, "brief", "used", "visited")

    async def happen() -> None:
        await begun.engine.publish([message("m1", "used")])
        await begun.engine.join(ann, {"visited": {}})
        await begun.engine.leave(ann, ["visited"])

    ann = begun.connect("ann")
    lab = move(happen)
    lab.collect(after_s=SOON_S)
    assert lab.channel("brief").last_active_s > begun.clock.wall() - SOON_S
    lab.run(lab.engine.disconnect(guest, ["brief", "used", "visited"]))
    lab.collect(after_s=1.0)
    assert names(lab) == {"used", "visited"}


@pytest.mark.parametrize("publishes", [True, False])
def test_it_goes_on_when_nothing_came_of_the_move(begun: Lab, stay: Move, publishes: bool) -> None:
    begun.connect("ann", "a", notify_presence=True)
    if publishes:
        begun.publish(message("m1"))
    head, lab = begun.head(), stay()
    lab.publish(message("m2"))
    lab.connect("bob", "a")
    assert lab.head() == head + 2
    assert lab.replay("ann", a=head).entries[0].event.uuid == "m2"


class Churn:
    """Random changes of a lab, of its few users and channels."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab = lab
        self._random = random.Random(seed)
        self._numbers = count()

    def change(self) -> None:
        """Change one thing."""
        self._random.choice(
            (self._connect, self._end, self._join, self._leave, self._say, self._edit, self._delete,
             self._whisper, self._configure, self._update, self._pass_time)
        )()  # fmt: skip

    def _channel(self) -> str:
        return self._random.choice("abc")

    def _user(self) -> str:
        return self._random.choice(("ann", "bob", "cid", GUEST))

    def _uuid(self) -> str:
        return f"m{self._random.randrange(8)}"

    def _member(self) -> tuple[Member, set[str]] | None:
        members = list(self._lab.recorder.members.values())
        return self._random.choice(members) if members else None

    def _connect(self) -> None:
        self._lab.connect(self._user(), self._channel(), conn_id=f"c{next(self._numbers)}")

    def _end(self) -> None:
        if found := self._member():
            self._lab.disconnect(found[0], *found[1])

    def _join(self) -> None:
        name, found = self._channel(), self._member()
        if found and name not in found[1]:
            self._lab.join(found[0], name, store_history=True, history_size=2, log_events=4)

    def _leave(self) -> None:
        if (found := self._member()) and found[1]:
            self._lab.leave(found[0], sorted(found[1])[0])

    def _say(self) -> None:
        self._lab.publish(message(self._uuid(), self._channel()))

    def _edit(self) -> None:
        self._lab.publish(edit(self._uuid(), channel=self._channel()))

    def _delete(self) -> None:
        self._lab.publish(delete(self._uuid(), self._channel()))

    def _whisper(self) -> None:
        self._lab.publish(private(f"p{self._random.randrange(4)}", self._user(), self._user()))

    def _configure(self) -> None:
        self._lab.configure(self._channel(), store_history=self._random.random() < 0.5)

    def _update(self) -> None:
        values = {self._random.choice("xy"): self._random.choice((1, True, None, "1"))}
        update = UserUpdate(values, {}, self._random.choice((None, ("x",), ("x", "y"))))
        self._lab.run(self._lab.engine.update_user(self._user(), update))

    def _pass_time(self) -> None:
        self._lab.collect(self._random.choice((1.0, 300.0)))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_differs_whatever_happens_between_copies(processes: Processes, seed: int) -> None:
    """What can be read, who is where, and what is forgotten when."""
    lab, chance = processes.lab, random.Random(seed)
    churn = Churn(lab, seed)
    for _ in range(60):
        churn.change()
        if chance.random() < 0.1:
            processes.copy()
    before = described(lab)
    moved = processes.move()
    assert described(moved) == before
    idle = before[-1]
    moved.collect(after_s=0.7 * USERS_S)
    stay = {name for name in before[2] if idle.get(name, 0) <= 0.3 * USERS_S}
    assert {user.name for user in moved.users()} == stay


def described(lab: Lab) -> Any:
    """Return all that can be read of an engine."""
    names = {"a": 0, "b": 0, "c": 0, "private": 0}
    replays = [
        form(lab.replay(user, **dict.fromkeys(names, at)))
        for user in ("ann", "bob", "cid")
        for at in range(0, 60, 5)
    ]
    channels = {
        each.name: (each.id, each.settings, each.users, each.always_connections, each.is_brief,
                    [(entry.offset, entry.event) for entry in each.history.entries])
        for each in lab.channels()
    }  # fmt: skip
    users = {
        each.name: (each.id, each.state, each.public_keys, each.public_state, each.connections, each.channels)
        for each in lab.users()
    }
    now_s = lab.clock.steady()
    idle = {each.name: round(now_s - each.idle_since_s, 3) for each in lab.users() if not each.connections}
    return replays, channels, users, lab.engine.position, idle
