"""Calls about one connection, in every order in which their steps can fall; `scene.py` says what holds after each."""

import logging
import random
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import combinations_with_replacement
from typing import Any

import pytest
from tests.simulation.drawn import drawn_seeds
from tests.simulation.failure import Failure
from tests.simulation.gated_engines import ENGINES
from tests.simulation.interleaving import some_ways, ways
from tests.simulation.scene import CALLS

from channelstream.core import acceptance
from channelstream.core.events import Event, Message
from channelstream.engines.local_log import LocalLog
from channelstream.engines.members import Member
from channelstream.engines.sqlite_members import MemberChanges
from channelstream.engines.staged import Staged
from channelstream.engines.unwritten import Unwritten
from channelstream.service.locks import Locks
from channelstream.transports.attachment import Attachment

RANDOM = 150
"""Ways in which more than two calls are played by each run: all of them would be too many."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Failures are played on purpose; an engine that logs them would fill the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("is_connected", [False, True], ids=["unknown", "connected"])
@pytest.mark.parametrize("engine", ENGINES)
def test_two_calls_in_every_order(engine: str, is_connected: bool) -> None:
    """With each single failure, and without: registrations agree with connections, and nothing is left behind."""
    # An edit concerns only messages and deletions, with which it is played below.
    calls = [name for name in CALLS if name != "edit"]
    played = sum(ways(engine, pair, is_connected) for pair in combinations_with_replacement(calls, 2))
    assert played > 300  # Else nothing was explored.


def test_more_calls_in_random_orders() -> None:
    """A failure names its seed, which plays the same again."""
    for seed in drawn_seeds(RANDOM):
        chance = random.Random(seed)
        names = chance.choices(list(CALLS), k=chance.choice((3, 4)))
        some_ways(chance.choice(ENGINES), names, chance.random() < 0.6, seed)


@pytest.mark.parametrize("others", [("publish",), ("publish", "delete")])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_edit_and_its_message_in_every_order(engine: str, others: tuple[str, ...]) -> None:
    """The log has the message once, in its edited form, whichever of them is accepted first."""
    assert ways(engine, ("edit", *others), is_connected=True)


@pytest.mark.parametrize("creation", ["connect a", "configure a"])
@pytest.mark.parametrize("others", [("edit", "publish"), ("publish", "publish")])
@pytest.mark.parametrize("engine", ENGINES)
def test_messages_of_a_channel_that_is_created_meanwhile(
    engine: str, others: tuple[str, ...], creation: str
) -> None:
    """What comes while the channel is unknown is kept nowhere, and no log is if the channel's creation is refused."""
    assert ways(engine, (*others, creation), is_connected=False)


# -- each fault that was there once is found


def no_turn(_turns: Locks, _key: str) -> nullcontext[None]:
    return nullcontext()


@pytest.mark.parametrize(
    ("engine", "calls", "is_connected", "found"),
    [
        ("diskless", ("connect a", "end"), False, "miscounted"),
        ("diskless", ("connect a", "good-bye"), False, "miscounted"),
        ("diskless", ("connect a", "unsubscribe a"), False, "a call failed"),
        ("late", ("connect a b", "subscribe c"), True, "in too many channels"),
        ("late", ("subscribe c", "end"), True, "miscounted"),
        ("diskless", ("connect a", "lost socket"), False, "miscounted"),
    ],
)
def test_calls_that_do_not_take_turns_are_found(
    monkeypatch: pytest.MonkeyPatch, engine: str, calls: tuple[str, str], is_connected: bool, found: str
) -> None:
    """Stale registrations, users counted twice, too many channels, calls that fail."""
    monkeypatch.setattr(Locks, "of", no_turn)
    with pytest.raises(Failure, match=found):
        ways(engine, calls, is_connected)


def test_a_connection_that_is_taken_back_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the refused write, and for the caller that has left."""

    def undo_connect(changes: MemberChanges, _done: Any, member: Member) -> None:
        changes._log.undo_connect(member)

    monkeypatch.setattr(MemberChanges, "_undo_connect", undo_connect)
    with pytest.raises(Failure):
        ways("diskless", ("given-up connect",), is_connected=False)


def test_messages_to_a_client_that_left_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not delivered: the next poll gets it."""
    monkeypatch.setattr(Attachment, "mark_undelivered", lambda _attachment, _received: None)
    with pytest.raises(Failure, match="by a client that had gone"):
        ways("late", ("publish", "left poll"), is_connected=True)


def test_a_message_that_is_accepted_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pending write does not count yet."""
    monkeypatch.setattr(Staged, "about", lambda _staged, _event: [])
    with pytest.raises(Failure, match="accepted twice"):
        ways("diskless", ("publish", "publish"), is_connected=True)


@pytest.mark.parametrize(
    ("where", "planted", "found"),
    [
        ("split_early", lambda edit, _: [edit], "a duplicate of nothing"),
        ("split_early", lambda *_: [], "answered and not in the log"),
        ("late_forms", lambda message, _: [message], "the log has the message as"),
    ],
    ids=["duplicate", "not logged", "old text"],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_fault_of_an_edit_before_its_message_is_found(
    monkeypatch: pytest.MonkeyPatch, engine: str, where: str, planted: Any, found: str
) -> None:
    """Where the edit makes its message a duplicate, where it is lost, and where the message keeps its old text."""
    monkeypatch.setattr(acceptance, where, planted)
    with pytest.raises(Failure, match=found):
        ways(engine, ("edit", "publish"), is_connected=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_message_that_is_accepted_after_its_deletion_is_found(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Where only a deletion that follows the message makes it a duplicate."""
    known = LocalLog._known

    def of_messages(log: LocalLog, event: Event) -> list[Event]:
        found = known(log, event)
        return found if any(isinstance(each, Message) for each in found) else []

    monkeypatch.setattr(LocalLog, "_known", of_messages)
    with pytest.raises(Failure, match="after its deletion"):
        ways(engine, ("delete", "publish"), is_connected=True)


def test_a_message_that_is_accepted_again_while_it_is_deleted_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a deletion that is being written takes the message away and is not known itself."""
    known = LocalLog._known

    def without_deletions(log: LocalLog, event: Event) -> list[Event]:
        held = log.staged.about(event)
        return [each for each in known(log, event) if each not in held]

    monkeypatch.setattr(LocalLog, "_known", without_deletions)
    with pytest.raises(Failure, match="accepted twice"):
        ways("diskless", ("publish", "delete", "publish"), is_connected=True)


@pytest.mark.parametrize(
    ("calls", "is_connected"),
    [(("connect a", "configure a"), False), (("subscribe a b", "change state"), True)],
)
def test_an_uncommitted_write_that_counts_is_found(
    monkeypatch: pytest.MonkeyPatch, calls: tuple[str, str], is_connected: bool
) -> None:
    """Somebody who joins meanwhile must neither keep settings nor receive a state that was refused."""

    async def at_once(*_: Any) -> None:
        return

    monkeypatch.setattr(Unwritten, "written", at_once)
    with pytest.raises(Failure):
        ways("diskless", calls, is_connected)
