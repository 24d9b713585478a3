"""Addresses: sets of networks, one spelling for each address, and what counts as one caller."""

import pytest

from channelstream.core.addresses import EVERYBODY, UNKNOWN, Networks, read_address, read_network, source_of


@pytest.mark.parametrize(
    ("entries", "address", "inside"),
    [
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "127.0.0.2", False),
        (("192.168.5.7/16",), "192.168.9.9", True),
        (("::1", "fe80::/10"), "fe80::5", True),
        (("127.0.0.1",), "::ffff:127.0.0.1", True),
        (("::ffff:127.0.0.1",), "127.0.0.1", True),
        (("::ffff:10.0.0.0/104",), "10.9.9.9", True),
        (("::ffff:10.0.0.0/104",), "11.0.0.0", False),
        (("::/0",), "10.0.0.1", False),
        (("127.0.0.1",), "::1", False),
        ((), "127.0.0.1", False),
        (("127.0.0.1",), "no address", False),
        (("0.0.0.0/0", "::/0"), UNKNOWN, False),
        ((EVERYBODY,), "8.8.8.8", True),
        ((EVERYBODY, "127.0.0.1"), "2001:db8::1", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
    ],
)
def test_networks_hold_addresses(entries: tuple[str, ...], address: str, inside: bool) -> None:
    """IPv4 and IPv6, single and by prefix; `0.0.0.0` is everybody, an IPv4-mapped address the IPv4 address."""
    assert Networks(entries).has(address) is inside


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::FFFF:0A01:0203", "10.1.2.3"),
        ("2001:DB8:0::0:1", "2001:db8::1"),
    ],
)
def test_an_address_has_one_spelling(text: str, spelled: str) -> None:
    """The shortest, for every spelling read."""
    assert str(read_address(text)) == spelled


@pytest.mark.parametrize(
    "text", ["", "unknown", "010.1.2.3", "10.1.2", "1234", "[::1]", "10.1.2.3:80", "::1::"]
)
def test_a_malformed_address_is_refused(text: str) -> None:
    """Octal and short forms are refused too, as programs disagree about them."""
    with pytest.raises(ValueError):
        read_address(text)
    with pytest.raises(ValueError):
        read_network(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:DB8:0:0:1:2:3:4", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        (UNKNOWN, UNKNOWN, True),
        ("testclient", "another", False),
    ],
)
def test_addresses_of_one_caller_share_a_key(one: str, other: str, same: bool) -> None:
    """IPv4 addresses one by one, IPv6 by their /64."""
    assert (source_of(one) == source_of(other)) is same
