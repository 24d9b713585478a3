"""Nonces of signed requests: once for each key within the window, in bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.nonces import SLOTS, Nonces
from channelstream.errors import BadSignature, TooManyRequests, Unavailable

NOW_S = 1_800_000_000
AGE_S, AHEAD_S = 60.0, 30.0


def test_a_nonce_counts_once_for_its_key() -> None:
    """Whatever time a second request with it has."""
    nonces = Nonces(AGE_S, AHEAD_S)
    nonces.check("web", "one")
    nonces.add("web", "one", NOW_S, NOW_S)
    nonces.add("web", "two", NOW_S, NOW_S)
    nonces.add("cron", "one", NOW_S, NOW_S)
    for signed_s in (NOW_S, NOW_S + 20, NOW_S - 50):
        with pytest.raises(BadSignature):
            nonces.add("web", "one", signed_s, NOW_S)
    with pytest.raises(BadSignature):
        nonces.check("web", "one")


@given(st.integers(-200, 200), st.floats(0.01, 500), st.floats(0, 500))
def test_a_nonce_is_kept_for_as_long_as_its_signature_is_accepted(
    age_s: int, max_age_s: float, max_ahead_s: float
) -> None:
    """Also if much else comes meanwhile."""
    nonces = Nonces(max_age_s, max_ahead_s)
    signed_s = NOW_S - age_s
    if not nonces.is_timely(signed_s, NOW_S):
        return
    nonces.add("web", "one", signed_s, NOW_S)
    later_s = float(NOW_S)
    while nonces.is_timely(signed_s, later_s):
        with pytest.raises(BadSignature):
            nonces.add("web", "one", signed_s, later_s)
        nonces.add("web", f"at {later_s}", int(later_s), later_s)
        later_s += (max_age_s + max_ahead_s) / 7
    assert nonces.left_s(signed_s, later_s) < 0


@pytest.mark.parametrize(
    ("signed_s", "is_timely"),
    [
        (NOW_S, True),
        (NOW_S - 60, True),
        (NOW_S - 61, True),
        (NOW_S - 62, False),
        (NOW_S + 30, True),
        (NOW_S + 31, False),
        (1, False),
    ],
)
def test_a_signature_is_accepted_within_the_window(signed_s: int, is_timely: bool) -> None:
    """A second more, since its time is rounded down."""
    assert Nonces(AGE_S, AHEAD_S).is_timely(signed_s, NOW_S) == is_timely


def test_a_key_that_fills_its_part_waits() -> None:
    """Other keys do not; and it goes on when its oldest nonces are forgotten."""
    nonces = Nonces(AGE_S, AHEAD_S, kept=3)
    for nonce in ("one", "two", "three"):
        nonces.add("web", nonce, NOW_S, NOW_S)
    with pytest.raises(TooManyRequests, match="more than 3 calls"):
        nonces.add("web", "four", NOW_S, NOW_S)
    nonces.add("cron", "four", NOW_S, NOW_S)
    later_s = NOW_S + AGE_S + 1 + (AGE_S + AHEAD_S + 1) / SLOTS
    nonces.add("web", "four", int(later_s), later_s)


def test_the_nonces_of_a_key_that_is_gone_are_forgotten() -> None:
    """With the next request of any other one, once they are too old."""
    nonces = Nonces(AGE_S, AHEAD_S)
    nonces.add("gone", "one", NOW_S, NOW_S)
    nonces.add("web", "one", NOW_S + 200, NOW_S + 200)
    nonces.check("gone", "one")


def test_a_clock_that_was_set_back_forgets_nothing_for_ever() -> None:
    """The memory follows the clock."""
    nonces = Nonces(AGE_S, AHEAD_S, kept=1)
    nonces.add("web", "one", NOW_S + 100_000, NOW_S + 100_000)
    nonces.add("cron", "one", NOW_S, NOW_S)
    nonces.add("cron", "two", NOW_S + 200, NOW_S + 200)


def test_a_process_that_begins_refuses_what_was_signed_before() -> None:
    """The one before it may have accepted that; the answer says when a new signature of the same clock is accepted."""
    nonces = Nonces(AGE_S, AHEAD_S)
    nonces.check_begun(NOW_S - 50, NOW_S)
    nonces.begin(NOW_S + 0.9)
    nonces.check_begun(NOW_S, NOW_S)
    with pytest.raises(Unavailable) as refusal:
        nonces.check_begun(NOW_S - 7, NOW_S)
    assert refusal.value.retry_after_s == 7


def test_a_process_begins_again_where_its_clock_is_set_back() -> None:
    """By more than a signature lives: else what was signed before it began could be accepted again."""
    nonces = Nonces(AGE_S, AHEAD_S)
    nonces.begin(NOW_S)
    with pytest.raises(Unavailable):
        nonces.check_begun(NOW_S - 60, NOW_S - AGE_S)
    set_back_s = NOW_S - 10_000
    nonces.check_begun(set_back_s, set_back_s + 0.5)
    nonces.check_begun(set_back_s, set_back_s + 50)
    with pytest.raises(Unavailable) as refusal:
        nonces.check_begun(set_back_s - 7, set_back_s)
    assert refusal.value.retry_after_s == 7


@pytest.mark.parametrize("max_age_s", [10.0, AGE_S, 600.0])
def test_nonces_move_to_another_process(max_age_s: float) -> None:
    """In rows of a bounded length; each counts there as long as its signature is accepted, in a window of another size."""
    old, new = Nonces(AGE_S, AHEAD_S), Nonces(max_age_s, AHEAD_S)
    for number in range(30):
        old.add("web", f"nonce-{number}", NOW_S - number, NOW_S)
    old.add("cron", "nonce-0", NOW_S, NOW_S)
    rows = list(old.rows(2))
    assert max(len(nonces) for _, _, nonces in rows) == 2
    new.restore(rows)
    for number in range(30):
        signed_s = NOW_S - number
        if new.is_timely(signed_s, NOW_S):
            with pytest.raises(BadSignature):
                new.add("web", f"nonce-{number}", signed_s, NOW_S)
    with pytest.raises(BadSignature):
        new.check("cron", "nonce-0")
    new.check("cron", "nonce-1")


def test_the_beginning_moves_to_another_process() -> None:
    """Which knows as little of what was signed before."""
    old, new = Nonces(AGE_S, AHEAD_S), Nonces(AGE_S, AHEAD_S)
    old.begin(NOW_S)
    new.restore(old.rows(2))
    new.check_begun(NOW_S, NOW_S)
    with pytest.raises(Unavailable):
        new.check_begun(NOW_S - 1, NOW_S)
