"""How often an address may do something."""

from collections import Counter

import pytest

from channelstream.config import Settings
from channelstream.core.addresses import UNKNOWN
from channelstream.errors import TooManyRequests
from channelstream.http.address_rates import AddressLimits, AddressRate, AddressRates
from channelstream.server import build


def streams(limits: AddressLimits, refused: Counter[str] | None = None) -> AddressRate:
    """Return the rate of streams at a moment that lasts."""
    found = AddressRates(limits, lambda: 1000.0, refused).streams
    assert found is not None
    return found


def taken(rate: AddressRate, address: str, most: int = 10_000_000) -> int:
    """Return how many streams an address opens before one is refused."""
    for count in range(most):
        try:
            rate.take(address)
        except TooManyRequests:
            return count
    return most


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        (UNKNOWN, UNKNOWN, True),
    ],
)
def test_an_address_is_counted_apart(one: str, other: str, same: bool) -> None:
    """An IPv6 /64 is one."""
    rate = streams(AddressLimits(streams_per_s=0.05))
    assert taken(rate, one) == 5
    assert taken(rate, other) == (0 if same else 5)


def test_refusals_are_counted_and_say_when_to_come_back() -> None:
    """In whole seconds, upwards."""
    refused = Counter[str]()
    rate = streams(AddressLimits(streams_per_s=0.4), refused)
    assert taken(rate, "192.0.2.1") == 40
    with pytest.raises(TooManyRequests) as refusal:
        rate.take("192.0.2.1")
    assert (refusal.value.retry_after_s, refused) == (3, {"stream": 2})


def test_some_addresses_have_no_limit() -> None:
    """And leave nothing behind."""
    rate = streams(AddressLimits(streams_per_s=0.01, unlimited=("10.0.0.0/8", "2001:db8::/32")))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        assert taken(rate, address, 1000) == 1000
    assert taken(rate, UNKNOWN) == taken(rate, "11.0.0.1") == 1


def test_there_may_be_no_limit() -> None:
    assert AddressRates(AddressLimits()).streams is None
    everybody = streams(AddressLimits(streams_per_s=0.01, unlimited=("0.0.0.0",)))
    assert taken(everybody, "192.0.2.1", 1000) == taken(everybody, UNKNOWN, 1000) == 1000


def test_by_default_an_office_comes_back_at_once() -> None:
    """Twenty thousand streams of one address; those of the machine and of private networks are not counted."""
    openings = build(Settings()).streams._openings
    assert openings is not None
    openings._clock = lambda: 1000.0
    assert taken(openings, "192.0.2.1") == 20_000
    for local in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "172.17.0.1", "fd00::1"):
        assert taken(openings, local, 20_001) == 20_001
