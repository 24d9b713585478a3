"""The resuming client without I/O: each test plays steps and outcomes, and moves the clock by itself."""

from typing import Any, TypeVar, cast

import pytest

from channelstream_client import Replaced, StreamClosed, UnknownConnection, Unreachable
from channelstream_client.protocol import (
    LOST,
    NORMAL,
    OVERLOADED,
    REPLACED,
    RESTARTING,
    SLOW,
    TOKEN_EXPIRED,
    UNKNOWN_CONNECTION,
    Item,
    RenewalFailed,
    StreamEnded,
)
from channelstream_client.resuming import (
    OPEN_TIMEOUT_S,
    Limits,
    OpenStream,
    RenewConnection,
    ResumingClient,
    Stop,
    Wait,
)

URL = "http://127.0.0.1:9"
S = TypeVar("S")


def message(number: int) -> Item:
    return {"type": "message", "message": number, "position": f"e-{number}"}


def resumed(position: str = "e-0", *lost: str) -> Item:
    return {"type": "resumed", "position": position, "recovered": ["news"], "lost": list(lost)}


class Play:
    """A client with a clock; jitter is 1, so that waits are the longest."""

    def __init__(self, *transports: str, **options: Any) -> None:
        self.now = 0.0
        self.client = ResumingClient(URL, "c", transports or ("ws",), lambda: 1.0, **options)

    def step(self, kind: type[S]) -> S:
        step = self.client.next_step(self.now)
        assert isinstance(step, kind), step
        return step

    def opens(self) -> OpenStream[str]:
        return cast("OpenStream[str]", self.step(OpenStream))

    def receives(self, *items: Item, **options: bool) -> list[Item]:
        return self.client.received(list(items), self.now, **options)

    def ends(self, code: int, **options: Any) -> None:
        self.client.ended(StreamEnded(code, "why", **options), self.now)

    def waits(self) -> float:
        """Take a wait, and let its time pass."""
        wait_s = self.step(Wait).wait_s
        self.now += wait_s
        return wait_s


def test_first_stream_resumes_from_the_given_position() -> None:
    """The first step opens the best transport; its address has the connection and the position, both quoted."""
    opening = Play("ws", "sse", position="e-1 &").opens()
    assert (opening.transport, opening.conn_id, opening.position) == ("ws", "c", "e-1 &")
    assert opening.address("/ws") == f"{URL}/ws?conn_id=c&since=e-1+%26"
    assert opening.timeout_s == OPEN_TIMEOUT_S


def test_next_stream_resumes_from_the_last_position() -> None:
    """The position of the last item counts, also that of `resumed`; items without one do not change it."""
    play = Play()
    play.opens()
    assert play.receives(resumed("e-5"), message(7), {"type": "new"}) == [
        resumed("e-5"),
        message(7),
        {"type": "new"},
    ]
    assert play.receives() == []
    play.ends(LOST)
    assert play.waits() == 0.5
    assert play.opens().position == play.client.position == "e-7"


@pytest.mark.parametrize("position", [None, 7, [], {}])
def test_position_of_another_kind_is_ignored(position: Any) -> None:
    """A malformed position neither fails nor counts, and so do malformed lists of what is lost."""
    play = Play(position="e-1")
    play.opens()
    play.receives({"type": "resumed", "position": position, "lost": 7})
    play.receives({"type": "message", "position": position})
    assert play.client.position == "e-1"


@pytest.mark.parametrize(("code", "waits"), [(LOST, 0.5), (RESTARTING, 3.0), (OVERLOADED, 3.0), (SLOW, 0.0)])
def test_wait_follows_the_policy_and_reports_the_end(code: int, waits: float) -> None:
    """Each failure is reported once with its wait, and then the stream is opened again."""
    play = Play()
    play.opens()
    play.receives(resumed())
    play.ends(code)
    wait = play.step(Wait)
    assert wait.wait_s == waits
    assert wait.down is not None
    assert (wait.down.reason, wait.down.code, wait.down.attempt) == (f"why ({code})", code, 1)
    assert wait.down.was_open
    play.opens()
    play.ends(code)
    again = play.step(Wait)
    assert again.down is not None
    assert not again.down.was_open


def test_closing_item_ends_the_stream_after_its_items() -> None:
    """The items before it are handed out; it is not, and nothing of the stream is to be read after it."""
    play = Play()
    play.opens()
    assert play.client.is_reading
    closing = {"type": "closing", "code": SLOW, "reason": "too slow"}
    assert play.receives(resumed(), message(1), closing) == [resumed(), message(1)]
    assert not play.client.is_reading
    assert play.waits() == 0.0
    assert play.opens().position == "e-1"


def test_stream_that_only_closes_has_not_opened() -> None:
    """A server that accepts every stream and closes it at once does not reset the count of failures."""
    play = Play(limits=Limits(attempts=3))
    for _ in range(2):
        play.opens()
        play.receives({"type": "closing", "code": OVERLOADED, "reason": "full"})
        play.waits()
    play.opens()
    play.receives({"type": "closing", "code": OVERLOADED, "reason": "full"})
    assert "after 3 attempts: full" in str(play.step(Stop).error)


def test_end_on_purpose_is_no_error() -> None:
    """After 1000 the last step has no error, and stays the last one, whatever else is reported."""
    play = Play()
    play.opens()
    play.ends(NORMAL)
    play.ends(REPLACED)
    assert [play.step(Stop).error for _ in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("code", "kind"), [(REPLACED, Replaced), (1008, StreamClosed), (4001, UnknownConnection)]
)
def test_final_code_is_an_error(code: int, kind: type[Exception]) -> None:
    """The error has the code, and the end of the stream as its cause; 4001 is final without `renew`."""
    play = Play()
    play.opens()
    play.ends(code)
    error = play.step(Stop).error
    assert type(error) is kind
    assert isinstance(error, StreamClosed)
    assert (error.code, error.reason) == (code, "why")
    assert isinstance(error.__cause__, StreamEnded)


# -- a new connection


def test_unknown_connection_is_renewed_at_once() -> None:
    """The application is asked with the last position, and the new connection resumes from it."""
    play = Play(can_renew=True)
    play.opens()
    play.receives(resumed(), message(4))
    play.ends(UNKNOWN_CONNECTION)
    assert play.waits() == 0.0
    assert play.step(RenewConnection).position == "e-4"
    play.client.renewed("d", "e-9")
    opening = play.opens()
    assert (opening.conn_id, opening.position) == ("d", "e-4")


def test_first_position_is_that_of_the_new_connection() -> None:
    """A client that has received nothing resumes from the position of its new connection."""
    play = Play(can_renew=True)
    play.opens()
    play.ends(UNKNOWN_CONNECTION)
    play.waits()
    play.step(RenewConnection)
    play.client.renewed("d", "e-9")
    assert play.opens().position == "e-9"


def test_failed_renewal_is_repeated_with_growing_waits() -> None:
    """Each failure is reported with its cause, and the transport stays."""
    play = Play("ws", "sse", can_renew=True)
    play.opens()
    play.ends(UNKNOWN_CONNECTION)
    play.waits()
    waits = []
    for _ in range(3):
        play.step(RenewConnection)
        failure = RenewalFailed("no answer")
        failure.__cause__ = KeyError("bug")
        play.client.ended(failure, play.now)
        wait = play.step(Wait)
        assert wait.down is not None
        assert isinstance(wait.down.error, KeyError)
        waits.append(wait.wait_s)
    assert waits == [0.5, 1, 2]
    play.step(RenewConnection)
    play.client.renewed("d")
    assert play.opens().transport == "ws"


def test_a_client_with_tokens_asks_for_each() -> None:
    """It opens no stream without one. One that has expired takes nothing else away; nor does an unknown connection."""
    play = Play(uses_tokens=True)
    play.step(RenewConnection)
    play.client.renewed("t-1")
    opening = play.opens()
    assert (opening.conn_id, opening.headers) == ("c", {"Authorization": "Bearer t-1"})
    assert "t-1" not in repr(opening)
    play.ends(TOKEN_EXPIRED)
    assert play.waits() == 0.0
    play.step(RenewConnection)
    play.client.renewed("t-2")
    opening = play.opens()
    assert (opening.conn_id, opening.token) == ("c", "t-2")
    play.ends(UNKNOWN_CONNECTION)
    assert play.waits() == 0.0
    opening = play.opens()
    assert (opening.conn_id, opening.token) == ("", "t-2")
    assert opening.address("/ws") == f"{URL}/ws?since="


def test_a_client_without_tokens_shows_none() -> None:
    """Its requests have no header for one."""
    assert Play().opens().headers == {}


# -- giving up


def test_time_without_a_stream_is_bounded() -> None:
    """No wait and no attempt exceeds `give_up_after_s`, which counts from the first step or the end of a stream."""
    play = Play(limits=Limits(give_up_after_s=1.25))
    play.now = 64.0
    assert play.opens().timeout_s == 1.25
    play.ends(LOST)
    assert play.waits() == 0.5
    assert play.opens().timeout_s == 0.75
    play.ends(LOST)
    assert play.waits() == 0.75
    assert play.opens().timeout_s == 0.001
    play.ends(LOST)
    assert isinstance(play.step(Stop).error, Unreachable)


def test_open_stream_has_no_limit() -> None:
    """The time of a stream that is open does not count, nor that of its polls; its end starts the count again."""
    play = Play(limits=Limits(give_up_after_s=1.0))
    play.opens()
    play.now = 500.0
    play.receives(resumed())
    play.client.answered(play.now)
    assert play.opens().timeout_s == OPEN_TIMEOUT_S
    play.now = 1000.0
    play.ends(LOST)
    assert play.waits() == 0.5


def test_error_hides_the_id() -> None:
    """The id in the text of a transport's error is masked in what is reported and raised."""
    play = Play(limits=Limits(attempts=2))
    play.opens()
    play.client.ended(StreamEnded(LOST, f"{URL}/ws?conn_id=secret&since="), 0.0)
    wait = play.step(Wait)
    assert wait.down is not None
    assert "secret" not in wait.down.reason
    play.opens()
    play.client.ended(StreamEnded(LOST, f"{URL}/ws?conn_id=secret&since="), 0.0)
    assert "secret" not in str(play.step(Stop).error)


# -- transports


def test_ladder_leads_down_and_up_again() -> None:
    """A transport that never worked is left at once; from a lesser one the best is tried again after a while."""
    play = Play("ws", "sse", "poll")
    tried = []
    for _ in range(3):
        tried.append(play.opens().transport)
        if tried[-1] != "poll":
            play.ends(LOST, status=404)
            assert play.waits() == 0.0
    assert tried == ["ws", "sse", "poll"]
    assert play.client.leave_at is None
    play.receives(resumed(), message(1))
    assert play.client.leave_at == 30.0
    play.now = 30.0
    play.client.left(play.now, to_upgrade=True)
    opening = play.opens()
    assert (opening.transport, opening.position, play.client.leave_at) == ("ws", "e-1", None)


def test_upgrade_that_is_due_between_polls_is_done_by_the_next_step() -> None:
    """A driver without a timer of its own also returns to the best transport, and not before."""
    play = Play("ws", "poll")
    play.opens()
    play.ends(LOST, status=404)
    play.waits()
    play.opens()
    play.receives(resumed())
    for number, now, transport in ((1, 29.9, "poll"), (2, 30.0, "ws")):
        play.receives(message(number))
        play.client.answered(play.now)
        play.now = now
        assert play.opens().transport == transport


def test_outcome_of_a_stream_that_is_over_changes_nothing() -> None:
    """A driver may report all that happens after a `closing` item, which has ended the stream with its code."""
    play = Play("ws", "sse")
    play.opens()
    play.receives(resumed(), {"type": "closing", "code": SLOW, "reason": ""})
    play.client.left(play.now, to_upgrade=True)
    play.client.answered(play.now)
    play.ends(NORMAL)
    assert play.receives(message(9)) == []
    assert play.waits() == 0.0
    assert not play.client.is_polling
    assert play.opens().position == "e-0"


# -- polls


def test_polls_continue_one_stream() -> None:
    """A poll that answers is followed by the next at once, from its last item; one without news is not, like the first."""
    play = Play("poll")
    play.opens()
    play.receives(resumed(), message(1))
    play.client.answered(play.now)
    assert play.opens().position == "e-1"
    play.client.answered(play.now)
    assert play.waits() == 1.0


@pytest.mark.parametrize("items", [[], [message(1)], [resumed("e-1")]])
def test_poll_that_answers_early_with_nothing_new_is_followed_by_a_wait(items: list[Item]) -> None:
    """A proxy that answers at once, with nothing or from a cache, is asked once a second; that is no failure."""
    play = Play("poll", position="e-1")
    play.opens()
    play.now = 0.25
    play.receives(*items)
    play.client.answered(play.now)
    wait = play.step(Wait)
    assert (wait.wait_s, wait.down) == (0.75, None)
    play.now = 1.0
    play.opens()
    play.now = 2.5
    play.receives()
    play.client.answered(play.now)
    play.opens()


def test_polls_hand_out_once_that_they_resume() -> None:
    """Every poll begins with `resumed`: it is handed out once, and again only if more is lost."""
    play = Play("poll")
    loss = resumed("e-2", "news")
    for sent, wanted in (
        ([resumed()], [resumed()]),
        ([resumed(), message(1)], [message(1)]),
        ([loss], [loss]),
        ([loss, message(3)], [message(3)]),
    ):
        play.opens()
        assert play.receives(*sent) == wanted
        play.client.answered(play.now)
    play.opens()
    play.ends(LOST)
    play.waits()
    play.opens()
    assert play.receives(loss) == [loss]


# -- items that the application has no room for


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_discarded_items_are_received_again(transport: str) -> None:
    """The stream goes on from the last item, and the next one after `left` resumes before the discarded items."""
    play = Play(transport)
    play.opens()
    play.receives(resumed(), message(1))
    assert play.receives(message(2), keep=False) == []
    assert play.client.position == "e-1"
    if transport == "poll":
        play.client.answered(play.now)
        assert play.opens().position == "e-2"
        play.receives(message(3), keep=False)
        play.client.answered(play.now)
    assert play.receives(message(4), keep=True) == []
    play.client.left(play.now, to_upgrade=False)
    assert play.opens().position == "e-1"
    assert play.receives(resumed("e-1")) == [resumed("e-1")]


def test_reopening_keeps_the_transport_and_is_no_failure() -> None:
    """A slow application does not cost a step of the backoff."""
    play = Play("ws", "sse")
    play.opens()
    play.receives(resumed())
    play.client.left(play.now, to_upgrade=False)
    assert (play.opens().transport, play.client.failures) == ("ws", 0)
