"""The clients of the restart storm: what they count, and that they resume by the client's policy."""

import pytest
import uvloop
from msgspec.structs import replace

from channelstream.bench.crowd import Tally, User
from channelstream.bench.load import Load
from channelstream.bench.progress import Progress
from channelstream.bench.restart import restart
from channelstream.bench.results import Measured, Percentiles, Resume, rate
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
def test_clients_are_back_after_a_kill_with_nothing_lost() -> None:
    """A server that is killed keeps what it acknowledged, connections too: no client needs a `/connect`."""
    measured = uvloop.run(restart(Load(clients=3, messages=0), (), Progress(None), jitter=lambda: 0.1))
    resume = measured.resume
    assert resume is not None
    assert measured.is_right, resume
    assert (resume.clients, resume.since_listening_ms.samples, resume.attempt_ms.samples) == (3, 3, 3)
    assert resume.attempt_ms.max > 0
    assert resume.server.cpu_us_each is not None
    assert 0 < resume.down_s < 60
    assert sum(resume.ends.values()) >= 3  # Each stream that broke.
    assert not any("4001" in reason for reason in resume.ends)


@pytest.mark.parametrize("fault", ["lost", "missing", "repeated"])
def test_a_fault_makes_the_run_wrong(fault: str) -> None:
    """A loss that was reported, a message that was skipped or came twice; an attempt that failed is none."""
    none = Percentiles(2, 1.0, 1.0, 1.0, 1.0, 1.0)
    right = Resume(
        clients=2, down_s=1.0, since_listening_ms=none, attempt_ms=none, server=rate(2, 1.0, None),
        ends={"HTTP 503": 7}, lost=0, missing=0, repeated=0,
    )  # fmt: skip
    assert Measured(resume=right).is_right
    assert not Measured(resume=replace(right, **{fault: 1})).is_right
