"""How long `channelstream listen` waits, by the policy of docs/resume.md, "Reconnect policy"."""

import pytest

from channelstream.cli.reconnect import ReconnectPolicy, retry_after_s

LOST, RESTARTING, OVERLOADED, UNKNOWN, SLOW = 1006, 1012, 1013, 4001, 4008


def test_steps_double_up_to_a_bound() -> None:
    """Failures in a row wait over 0.5, 1, 2, ... 30 s."""
    waits = ReconnectPolicy()
    assert [waits.longest_s(LOST, 0.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_crowds_spread() -> None:
    """After a restart or an overload the wait is over 3 s at least."""
    for code in (RESTARTING, OVERLOADED):
        waits = ReconnectPolicy()
        assert [waits.longest_s(code, 0.0) for _ in range(4)] == [3, 3, 3, 4]


def test_restart_of_an_open_stream_starts_short_again() -> None:
    """The first 1012 that closes an open stream inherits no step of older failures."""
    waits = ReconnectPolicy()
    for _ in range(5):
        waits.longest_s(LOST, 0.0)
    waits.received(1.0)
    assert waits.longest_s(RESTARTING, 2.0) == 3


@pytest.mark.parametrize("code", [UNKNOWN, SLOW])
def test_decision_of_the_server_costs_no_wait_once(code: int) -> None:
    """The first since a stream of 10 s is no failure."""
    waits = ReconnectPolicy()
    first = [waits.longest_s(code, 0.0) for _ in range(2)]
    waits.received(1.0)
    assert [*first, waits.longest_s(code, 11.0)] == [0, 0.5, 0]


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7),
        ("9" * 400, 300),
        ("Thu, 01 Jan 1970 00:16:45 GMT", 5),
        ("Thu, 01 Jan 1970 00:16:45 -0000", 5),
        ("Sat, 31 Jan 1970 00:00:00 GMT", 300),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_a_bound(header: str, wait_s: float) -> None:
    """Nothing in the header makes a client wait for ever, or fail."""
    assert retry_after_s(header, 1000.0) == wait_s
