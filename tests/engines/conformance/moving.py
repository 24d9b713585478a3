"""What an engine of one process must do that moves to another process: answer there as here.

It needs the fixture `processes`. The next process has another steady clock.
"""

from collections.abc import Callable
from typing import Any

import pytest
from tests.engines.conformance.lab import Lab, Setup, delete, edit, message, outcomes, private
from tests.engines.moves import Processes

from channelstream.core.events import UsersLeft
from channelstream.core.log import PRIVATE, Replay
from channelstream.core.user import UserUpdate
from channelstream.engines.base import Engine
from channelstream.engines.members import Leaving

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
