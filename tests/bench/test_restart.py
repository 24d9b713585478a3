"""The clients of the restart storm: what they count, and that they resume by the client's policy."""

from pathlib import Path

import pytest
import uvloop

from channelstream.bench.restart import Tally, User, run
from channelstream_client.protocol import Item


def message(number: int) -> Item:
    return {"type": "message", "message": {"n": number}}


def resumed(*lost: str) -> Item:
    return {"type": "resumed", "lost": list(lost)}


def test_user_that_receives_all_once_has_no_fault() -> None:
    """Messages in order, over several streams without a loss, are right."""
    user = User(Tally())
    user.take([resumed(), message(0), message(1)])
    first_s = user.resumed_s
    user.take([resumed(), {"type": "presence"}, message(2)])
    assert (user.tally, user.expected) == (Tally(), 3)
    assert 0 < first_s <= user.resumed_s


@pytest.mark.parametrize(
    ("numbers", "tally"),
    [((0, 2), Tally(missing=1)), ((0, 0, 1), Tally(repeated=1)), ((1, 0), Tally(missing=1, repeated=1))],
)
def test_gaps_and_repetitions_are_counted(numbers: tuple[int, ...], tally: Tally) -> None:
    """What is skipped is missing, and what comes again or late is repeated."""
    user = User(Tally())
    user.take([message(number) for number in numbers])
    assert user.tally == tally


def test_losses_are_counted() -> None:
    """Each `resumed` that names a lost channel counts."""
    user = User(Tally())
    user.take([resumed("news"), resumed("")])
    assert user.tally == Tally(lost=2)


@pytest.mark.slow
def test_clients_are_back_after_a_kill_with_nothing_lost(tmp_path: Path) -> None:
    """A server that is killed keeps what it acknowledged; a new one has no connections, and all are registered again."""
    row = uvloop.run(run(3, f"sqlite:///{tmp_path}/state.db", jitter=lambda: 0.1))
    assert row.is_right, row
    assert row.attempts_each >= 2  # The stream that broke, and 4001 of the new server.
    assert str(row).startswith("3 clients, server away for ")
