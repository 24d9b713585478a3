"""The throttle of password guessing, with a clock and a sleep of our own."""

import asyncio
from collections import Counter

import pytest

from channelstream.core.token_buckets import WANTED
from channelstream.errors import TooManyRequests
from channelstream.http.address_rates import FAILURES_AT_ONCE, MINUTE_S, AddressLimits, AddressRates
from channelstream.pages.throttle import PENDING, PENDING_PER_ADDRESS, Throttle


class Time:
    """A clock that moves only when a test moves it, and sleeps that are recorded and end at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)


def throttle_at(time: Time, unlimited: tuple[str, ...] = (), refused: Counter[str] | None = None) -> Throttle:
    """Return a throttle that forgets a failure in a minute."""
    rates = AddressRates(AddressLimits(unlimited=unlimited), time.clock, refused)
    return Throttle(rates.failed_sign_ins(), time.sleep)


def guess(throttle: Throttle, address: str, right: bool = False) -> bool:
    return asyncio.run(throttle.attempt(address, lambda: right))


def test_delay_grows_up_to_a_bound_and_is_forgotten_after_success() -> None:
    """Each failure of an address waits twice as long, up to 4 s; a success starts over."""
    time = Time()
    throttle = throttle_at(time)
    for _ in range(5):
        assert not guess(throttle, "192.0.2.1")
    assert time.slept == [0.5, 1, 2, 4, 4]
    assert guess(throttle, "192.0.2.1", right=True)
    assert not guess(throttle, "192.0.2.1")
    assert time.slept[5:] == [0.5]


def test_a_success_that_forgives_nothing_leaves_the_delay() -> None:
    """That of one who may only look, and may guess the password of another."""
    time = Time()
    throttle = throttle_at(time)
    guess(throttle, "192.0.2.1")
    assert asyncio.run(throttle.attempt("192.0.2.1", lambda: True, lambda _: False))
    guess(throttle, "192.0.2.1")
    assert time.slept == [0.5, 1]


def test_delay_is_forgotten_with_time() -> None:
    """A failure in a minute."""
    time = Time()
    throttle = throttle_at(time)
    for pause_s in (0, 0, 2 * MINUTE_S, 0):
        time.now_s += pause_s
        guess(throttle, "192.0.2.1")
    assert time.slept == [0.5, 1, 0.5, 1]


def test_who_has_failed_too_often_is_refused() -> None:
    """Without a look at the password, until a failure is forgotten; other addresses are not."""
    time, refused = Time(), Counter[str]()
    throttle = throttle_at(time, refused=refused)
    for _ in range(FAILURES_AT_ONCE):
        guess(throttle, "192.0.2.1")
    with pytest.raises(TooManyRequests) as refusal:
        guess(throttle, "192.0.2.1", right=True)
    assert (refusal.value.retry_after_s, refused) == (MINUTE_S, {"sign_in": 1})
    assert guess(throttle, "192.0.2.2", right=True)
    time.now_s += MINUTE_S
    assert guess(throttle, "192.0.2.1", right=True)
    assert not guess(throttle, "192.0.2.1")
    assert time.slept[-1] == 0.5


def test_an_unlimited_address_is_only_delayed() -> None:
    """That of a proxy on the same machine is that of all callers; they wait, and the admin among them signs in."""
    time = Time()
    throttle = throttle_at(time, unlimited=("127.0.0.0/8",))
    for _ in range(10 * FAILURES_AT_ONCE):
        assert not guess(throttle, "127.0.0.1")
    assert time.slept[-1] == 4
    time.now_s += (FAILURES_AT_ONCE + 1) * MINUTE_S
    guess(throttle, "127.0.0.1")
    assert time.slept[-1] == 0.5
    assert guess(throttle, "127.0.0.1", right=True)


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
    throttle = throttle_at(time)
    guess(throttle, one)
    guess(throttle, other)
    assert time.slept == [0.5, 1.0 if same else 0.5]


def test_a_flood_of_addresses_does_not_end_the_delays_of_one() -> None:
    """The addresses that are remembered are bounded, and those that have failed most are kept."""
    time = Time()
    rates = AddressRates(AddressLimits(), time.clock)
    failures = rates.failed_sign_ins()
    throttle = Throttle(failures, time.sleep)

    async def flood() -> None:
        for _ in range(3):
            await throttle.attempt("192.0.2.1", lambda: False)
        for number in range(3 * WANTED):
            await throttle.attempt(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", lambda: False)
        await throttle.attempt("192.0.2.1", lambda: False)

    asyncio.run(flood())
    assert time.slept[-1] == 4


def test_attempts_waiting_at_once_are_bounded_per_address() -> None:
    """The attempt over the bound is refused without a check of its password; later ones pass again."""

    async def scenario() -> None:
        gate = asyncio.Event()

        async def sleep(_: float) -> None:
            await gate.wait()

        throttle = Throttle(AddressRates(AddressLimits()).failed_sign_ins(), sleep)
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

        throttle = Throttle(AddressRates(AddressLimits()).failed_sign_ins(), sleep)
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
