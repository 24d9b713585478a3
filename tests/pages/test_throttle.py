"""The throttle of password guessing, with a clock and a sleep of our own."""

import asyncio

import pytest

from channelstream.errors import TooManyRequests
from channelstream.pages.throttle import ADDRESSES, FORGET_AFTER_S, PENDING, PENDING_PER_ADDRESS, Throttle


class Time:
    """A clock that moves only when a test moves it, and sleeps that are recorded and end at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)


def guess(throttle: Throttle, address: str, right: bool = False) -> bool:
    return asyncio.run(throttle.attempt(address, lambda: right))


def test_delay_grows_up_to_a_bound_and_is_forgotten_after_success() -> None:
    """Each failure of an address waits twice as long, up to 4 s; a success starts over."""
    time = Time()
    throttle = Throttle(time.clock, time.sleep)
    for _ in range(5):
        assert not guess(throttle, "192.0.2.1")
    assert time.slept == [0.5, 1, 2, 4, 4]
    assert guess(throttle, "192.0.2.1", right=True)
    assert not guess(throttle, "192.0.2.1")
    assert time.slept[5:] == [0.5]


def test_a_success_that_forgives_nothing_leaves_the_delay() -> None:
    """That of one who may only look, and may guess the password of another."""
    time = Time()
    throttle = Throttle(time.clock, time.sleep)
    guess(throttle, "192.0.2.1")
    assert asyncio.run(throttle.attempt("192.0.2.1", lambda: True, lambda _: False))
    guess(throttle, "192.0.2.1")
    assert time.slept == [0.5, 1]


def test_delay_is_forgotten_with_time() -> None:
    """An address without a recent failure starts over."""
    time = Time()
    throttle = Throttle(time.clock, time.sleep)
    guess(throttle, "192.0.2.1")
    time.now_s += FORGET_AFTER_S
    guess(throttle, "192.0.2.1")
    assert time.slept == [0.5, 0.5]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("unknown", "unknown", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
        ("testclient", "another", False),
    ],
)
def test_addresses_of_one_guesser_share_a_key(one: str, other: str, same: bool) -> None:
    """IPv4 addresses are distinguished one by one, IPv6 by their /64."""
    time = Time()
    throttle = Throttle(time.clock, time.sleep)
    guess(throttle, one)
    guess(throttle, other)
    assert time.slept == [0.5, 1.0 if same else 0.5]


def test_remembers_a_bounded_number_of_addresses() -> None:
    """A flood of addresses pushes out the oldest failure, and the table does not grow."""
    time = Time()
    throttle = Throttle(time.clock, time.sleep)

    async def flood() -> None:
        for number in range(ADDRESSES + 1):
            await throttle.attempt(f"10.0.{number >> 8}.{number & 255}", lambda: False)
        await throttle.attempt("10.0.0.0", lambda: False)

    asyncio.run(flood())
    assert time.slept[-1] == 0.5


def test_attempts_waiting_at_once_are_bounded_per_address() -> None:
    """The attempt over the bound is refused without a check of its password; later ones pass again."""

    async def scenario() -> None:
        gate = asyncio.Event()

        async def sleep(_: float) -> None:
            await gate.wait()

        throttle = Throttle(sleep=sleep)
        waiting = [
            asyncio.create_task(throttle.attempt("192.0.2.1", lambda: False))
            for _ in range(PENDING_PER_ADDRESS)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await throttle.attempt("192.0.2.1", lambda: pytest.fail("looked at"))
        assert await throttle.attempt("192.0.2.2", lambda: True)
        gate.set()
        assert await asyncio.gather(*waiting) == [False] * PENDING_PER_ADDRESS
        assert await throttle.attempt("192.0.2.1", lambda: True)

    asyncio.run(scenario())


def test_attempts_waiting_at_once_are_bounded_in_all() -> None:
    """Many addresses together cannot hold more than a bounded number of waiting attempts."""

    async def scenario() -> None:
        gate = asyncio.Event()

        async def sleep(_: float) -> None:
            await gate.wait()

        throttle = Throttle(sleep=sleep)
        waiting = [
            asyncio.create_task(throttle.attempt(f"192.0.2.{number}", lambda: False))
            for number in range(PENDING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await throttle.attempt("198.51.100.1", lambda: True)
        gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(scenario())
