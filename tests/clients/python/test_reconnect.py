"""The policy of docs/resume.md, "Reconnect policy", without waiting: which transport is opened next, and when."""

import pytest

from channelstream_client.protocol import (
    LOST,
    OVERLOADED,
    REPLACED,
    RESTARTING,
    SLOW,
    UNKNOWN_CONNECTION,
    RenewalFailed,
    StreamEnded,
)
from channelstream_client.reconnect import STABLE_S, ReconnectPolicy

WS, SSE, POLL = range(3)


def policy(jitter: float = 1.0, transports: int = 1) -> ReconnectPolicy:
    made = ReconnectPolicy(transports, lambda: jitter)
    made.begin(0.0)
    return made


def lost(status: int | None = None) -> StreamEnded:
    return StreamEnded(LOST, "", status=status)


def full(status: int = 503, retry_after_s: float = 0.0) -> StreamEnded:
    return StreamEnded(OVERLOADED, "", retry_after_s, status)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 4002])
def test_final_codes_end_it(code: int) -> None:
    """After these codes a client does not reconnect."""
    assert policy().ended(StreamEnded(code, ""), 1.0) is None


def test_steps_double_up_to_a_bound_with_full_jitter() -> None:
    """Failures in a row wait over 0.5, 1, 2, ... 30 s, any part of it."""
    longest = policy()
    assert [longest.ended(lost(), 1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [policy(jitter).ended(lost(), 1.0) for jitter in (0.0, 0.5)] == [0.0, 0.25]


def test_all_clients_of_a_restart_spread() -> None:
    """After 1012, 1013, 429 and 503 the wait is over 3 s, or over the step where that is longer."""
    for end in (StreamEnded(RESTARTING, ""), StreamEnded(OVERLOADED, ""), full(503), full(429)):
        known = policy()
        assert [known.ended(end, 1.0) for _ in range(4)] == [3, 3, 3, 4]


def test_restart_of_an_open_stream_starts_short_again() -> None:
    """The first 1012 that closes an open stream inherits no step of older failures; the second does, and a refusal."""
    known = policy()
    for _ in range(4):
        known.ended(lost(), 1.0)
    assert known.ended(StreamEnded(RESTARTING, ""), 1.0) == 8
    known.received(2.0)
    assert known.ended(StreamEnded(RESTARTING, ""), 3.0) == 3
    for _ in range(4):
        known.ended(lost(), 3.0)
    known.received(4.0)
    assert known.ended(StreamEnded(RESTARTING, ""), 5.0) == 16


def test_stable_stream_makes_steps_short_again() -> None:
    """Only a stream that receives something 10 s after it opened forgets the failures before it."""
    known = policy()
    for second, longest in ((9.9, 2), (10.0, 0.5)):
        known.ended(lost(), 0.0)
        known.ended(lost(), 0.0)
        known.received(100.0)
        known.received(100.0 + second)
        assert known.ended(lost(), 200.0) == longest
        known = policy()


@pytest.mark.parametrize("code", [UNKNOWN_CONNECTION, SLOW])
def test_decision_of_the_server_costs_no_wait_once(code: int) -> None:
    """The first 4001 and the first 4008 since a stable stream are no failures."""
    known = policy()
    waits = [known.ended(StreamEnded(code, ""), 1.0) for _ in range(3)]
    known.received(10.0)
    known.received(20.0)
    assert [*waits, known.ended(StreamEnded(code, ""), 21.0)] == [0, 0.5, 1, 0]


def test_retry_after_is_waited_in_addition_up_to_five_minutes() -> None:
    """A server, or a proxy, that names a month is asked again after five minutes."""
    assert policy(0.0).ended(full(retry_after_s=7), 1.0) == 7
    assert policy(0.0).ended(full(retry_after_s=30 * 86_400), 1.0) == 300


@pytest.mark.parametrize("status", [400, 404, 429, 502, 503])
def test_transport_that_never_worked_is_left_at_once(status: int) -> None:
    """A proxy's answer for one path leads to the next transport, and from the last to the first."""
    known = policy(transports=3)
    end = full(status) if status in (429, 503) else lost(status)
    levels = []
    for _ in range(3):
        known.ended(end, 1.0)
        levels.append(known.level)
    assert levels == [SSE, POLL, WS]


def test_next_transport_is_tried_without_a_wait() -> None:
    """A lost transport costs no wait, but the last one does; where the server is full all of them do."""
    known = policy(transports=3)
    assert [known.ended(lost(404), 1.0) for _ in range(3)] == [0, 0, 0.5]
    assert policy(transports=3).ended(full(), 1.0) == 3


def test_transport_that_worked_has_three_tries() -> None:
    """A cut line is not a fault of the transport, until it fails three times in a row; and so for the next one."""
    known = policy(transports=2)
    levels = []
    for _ in range(2):
        known.received(1.0)
        for _ in range(3):
            known.ended(lost(), 2.0)
            levels.append(known.level)
    assert levels == [WS, WS, SSE, SSE, SSE, WS]


@pytest.mark.parametrize("end", [StreamEnded(OVERLOADED, "full"), RenewalFailed("no"), StreamEnded(SLOW, "")])
def test_an_end_by_server_or_application_keeps_the_transport(end: StreamEnded) -> None:
    """A close code, a closing item and a failed renewal are not the transport's fault."""
    known = policy(transports=2)
    known.ended(end, 1.0)
    assert known.level == WS


def test_lesser_transport_comes_up_again() -> None:
    """On a lesser transport the best is tried after a while, longer each time; one failure leads back down."""
    known = policy(transports=2)
    waits: list[float | None] = []
    for _ in range(6):
        known.ended(lost(404), 1.0)
        assert known.level == SSE
        waits.append(known.received(2.0))
        known.upgrade(3.0)
        assert known.level == WS
    assert waits == [30, 60, 120, 240, 480, 600]
    assert known.received(4.0) is None
    earliest = policy(0.0, transports=2)
    earliest.ended(lost(404), 1.0)
    assert earliest.received(2.0) == 15


def test_a_stable_stream_of_the_best_transport_shortens_the_next_wait_for_it() -> None:
    """Not one of a lesser transport."""
    known = policy(transports=2)
    known.ended(lost(404), 1.0)
    waits = [known.received(2.0)]
    known.received(2.0 + STABLE_S)
    known.upgrade(20.0)
    known.ended(lost(404), 21.0)
    waits.append(known.received(22.0))
    known.upgrade(23.0)
    known.received(24.0)
    known.received(24.0 + STABLE_S)
    for _ in range(3):
        known.ended(lost(), 50.0)
    waits.append(known.received(51.0))
    assert waits == [30, 60, 30]


def test_failure_of_the_best_transport_after_an_upgrade_leads_back_down() -> None:
    """A transport that has worked before has one attempt then, not three."""
    known = policy(transports=2)
    known.received(1.0)
    for _ in range(3):
        known.ended(lost(), 2.0)
    known.received(3.0)
    known.upgrade(4.0)
    known.ended(lost(), 5.0)
    assert known.level == SSE


def test_a_replacement_by_an_own_stale_stream_is_no_replacement() -> None:
    """A stream that the client gave up may reach the server late, and must not end the newer one permanently."""
    for at, is_final in ((129.0, False), (130.0, True)):
        known = policy()
        known.ended(lost(), 100.0)
        known.received(101.0)
        assert (known.ended(StreamEnded(REPLACED, ""), at) is None) == is_final
        assert known.ended(StreamEnded(REPLACED, ""), at) is None


def test_a_replacement_by_a_stream_that_the_client_has_left_is_none_either() -> None:
    """Its request may reach the server late as well."""
    known = policy()
    known.received(100.0)
    known.reopen(101.0)
    known.received(102.0)
    assert known.ended(StreamEnded(REPLACED, ""), 130.0) is not None


def test_failures_are_counted_until_a_stream_opens() -> None:
    """The number of failed attempts in a row, and their start, are kept until a stream opens."""
    known = policy()
    known.ended(lost(), 1.0)
    known.ended(lost(), 2.0)
    assert (known.failures, known.down_since) == (2, 0.0)
    known.received(3.0)
    assert (known.failures, known.down_since) == (0, None)
    known.ended(lost(), 7.0)
    assert (known.failures, known.down_since) == (1, 7.0)
