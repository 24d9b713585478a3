"""Lists of addresses and networks."""

import pytest

from channelstream.config.networks import Networks, is_loopback


def test_reads_addresses_and_networks() -> None:
    """IPv4 and IPv6 addresses and networks are read in their shortest spelling, host bits dropped."""
    text = "127.0.0.1, 10.1.2.3/8\n0:0:0:0:0:0:0:1 2001:db8::/32,"
    assert Networks().parse(text) == ("127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32")


def test_an_ipv4_mapped_entry_is_the_ipv4_one() -> None:
    """The addresses of callers are read so, and otherwise the entry would admit none."""
    assert Networks().parse("::ffff:10.1.2.3 ::ffff:10.0.0.0/104") == ("10.1.2.3", "10.0.0.0/8")


def test_placeholders_admit_nobody() -> None:
    """Placeholder entries are left out, and reported in a warning."""
    text = "x.x.x.x, 10.0.0.y, 127.0.0.1"
    assert Networks().parse(text) == ("127.0.0.1",)
    assert Networks().placeholders(text) == ["x.x.x.x", "10.0.0.y"]


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.256", "10.0.0", "10.0.*.*", "::1/129", "1.2.3.4/x"])
def test_refuses_other_entries(entry: str) -> None:
    """An entry that is neither address, network nor placeholder is refused: it may be a slip."""
    with pytest.raises(ValueError):
        Networks().parse(entry)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST"]
)
def test_loopback_hosts_reach_this_machine_only(host: str) -> None:
    """Loopback addresses and localhost reach this machine only."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.1", "example.com", "localhost.example"])
def test_other_hosts_may_be_reached_from_elsewhere(host: str) -> None:
    """Everything else may be reached from elsewhere, the empty host (all addresses) too."""
    assert not is_loopback(host)
