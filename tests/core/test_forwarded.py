"""What proxies say: X-Forwarded-For with ports and brackets, and Forwarded by the grammar of RFC 7239."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from channelstream.core.addresses import UNKNOWN
from channelstream.core.forwarded import LIST_BYTES, Hop, forwarded, x_forwarded_for


def hops(*lines: bytes) -> list[Hop]:
    return list(forwarded([(b"forwarded", line) for line in lines]))


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        (b"", []),
        (b" , ,", []),
        (b"10.1.2.3", ["10.1.2.3"]),
        (b"10.1.2.3:51008", ["10.1.2.3"]),
        (b"[2001:db8::1]:443", ["2001:db8::1"]),
        (b"[2001:db8::1]", ["2001:db8::1"]),
        (b"2001:DB8::1", ["2001:db8::1"]),
        (b"::ffff:10.1.2.3", ["10.1.2.3"]),
        (b"[::ffff:10.1.2.3]:80", ["10.1.2.3"]),
        (b"9.9.9.9:1, \t[::1]:2 ,10.0.0.1", ["9.9.9.9", "::1", "10.0.0.1"]),
    ],
)
def test_addresses_come_with_ports_and_brackets(value: bytes, addresses: list[str]) -> None:
    """A port is no part of the address; items stand in their order, empty ones do not count."""
    assert [hop.address for hop in x_forwarded_for([(b"x-forwarded-for", value)])] == addresses


@pytest.mark.parametrize(
    "value",
    [
        b"unknown", b"_hidden", b"localhost", b"10.1.2", b"010.1.2.3", b"10.1.2.256", b"10.1.2.3:", b"10.1.2.3:x",
        b"10.1.2.3:123456", b"10.1.2.3 10.1.2.4", b"[10.1.2.3]", b"[2001:db8::1", b"2001:db8::1]", b"[]", b"[::1]443",
        b"[::1]:443:1", b"::ffff:10.1.2.3:443", b"fe80::1%eth0", b"[fe80::1%25eth0]", b'"10.1.2.3"', b"10.1.2.3/32",
        b"1::2::3", b"167838211", b"\xb2.1.2.3", b"10.1.2.3;", b"for=10.1.2.3",
    ],
)  # fmt: skip
def test_an_unreadable_address_is_refused(value: bytes) -> None:
    """Neither in one list nor in the other."""
    assert x_forwarded_for([(b"x-forwarded-for", value)]) == [Hop(UNKNOWN)]
    assert {hop.address for hop in hops(b'for="' + value.replace(b'"', b'\\"') + b'"')} == {UNKNOWN}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b""], []),
        ([b" , ;,"], []),
        ([b"for=192.0.2.60;proto=http;by=203.0.113.43"], [Hop("192.0.2.60", "http")]),
        ([b"for=192.0.2.43, for=198.51.100.17"], [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        ([b"for=192.0.2.43", b"for=198.51.100.17"], [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        ([b'For="[2001:db8:cafe::17]:4711"'], [Hop("2001:db8:cafe::17")]),
        ([b'for="[2001:db8:cafe::17]"'], [Hop("2001:db8:cafe::17")]),
        ([b'for="192.0.2.43:47011"'], [Hop("192.0.2.43")]),
        ([b'for="192.0.2.43:_port"'], [Hop("192.0.2.43")]),
        ([b'for="\\1\\92.0.2.43"'], [Hop("192.0.2.43")]),
        ([b'for="[::ffff:192.0.2.43]:1"'], [Hop("192.0.2.43")]),
        ([b'for="_gazonk"'], [Hop(UNKNOWN)]),
        ([b"for=_hidden, for=unknown"], [Hop(UNKNOWN), Hop(UNKNOWN)]),
        ([b'for="unknown:80";proto=https'], [Hop(UNKNOWN, "https")]),
        ([b"for=2001:db8::1"], [Hop(UNKNOWN)]),
        ([b'for="2001:db8::1"'], [Hop(UNKNOWN)]),
        ([b"by=_proxy;proto=https"], [Hop(UNKNOWN, "https")]),
        ([b"for=9.9.9.9;PROTO=WSS;x=y"], [Hop("9.9.9.9", "https")]),
        ([b"for=9.9.9.9;proto=gopher"], [Hop("9.9.9.9")]),
        ([b'for=9.9.9.9; host="push.example:8443" ; proto=https'], [Hop("9.9.9.9", "https", "push.example:8443")]),
        ([b'for=9.9.9.9;host="[2001:db8::1]:80"'], [Hop("9.9.9.9", "", "[2001:db8::1]:80")]),
        ([b'for=9.9.9.9;host="evil/path"'], [Hop("9.9.9.9")]),
        ([b'for=9.9.9.9;host="a\\", for=127.0.0.1"'], [Hop("9.9.9.9")]),
    ],
)  # fmt: skip
def test_forwarded_is_read_by_its_grammar(lines: list[bytes], expected: list[Hop]) -> None:
    """Examples of RFC 7239, and what else its grammar allows: quotes, ports, hidden names, several lines."""
    assert hops(*lines) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"for", b"for=", b"=9.9.9.9", b"for =9.9.9.9", b"for= 9.9.9.9", b"for=9.9.9.9 proto=http", b"9.9.9.9",
        b'for="9.9.9.9', b'for="9.9.9.9"x', b'for="[::1]":80', b"for=[::1]", b"for=9.9.9.9:80", b"for=1.1.1.1;for=9.9.9.9",
        b"for=1.1.1.1;FOR=9.9.9.9", b'x=", for=9.9.9.9', b'x="\\, for="[::1]"', b"for=9.9.9.9;\x00",
    ],
)  # fmt: skip
def test_a_list_that_breaks_the_grammar_is_unknown(line: bytes) -> None:
    """The whole list: an open quote would swallow the part of the next proxy."""
    assert hops(line) == [Hop(UNKNOWN)]


def test_a_long_list_is_not_read() -> None:
    """Its caller is unknown; one that just fits is read."""
    fits = b"10.0.0.1," * (LIST_BYTES // 9)
    assert len(x_forwarded_for([(b"x-forwarded-for", fits)])) == LIST_BYTES // 9
    assert x_forwarded_for([(b"x-forwarded-for", fits * 2)]) == [Hop(UNKNOWN)]
    assert hops(b"for=9.9.9.9," * LIST_BYTES) == [Hop(UNKNOWN)]


@given(some.text(alphabet='for=19.,;"\\ []:_xby\t', max_size=40))
def test_a_client_cannot_forge_the_hop_of_a_proxy(text: str) -> None:
    """Whatever stands before the proxy's part, the last hop is the proxy's, or all is unknown."""
    own = 'for="[2001:db8::1]:443";proto=https;host="push.example:80"'
    found = hops(text.encode() + b", " + own.encode())
    assert found[-1] in (Hop("2001:db8::1", "https", "push.example:80"), Hop(UNKNOWN))
    assert len(found) == 1 or found[-1] != Hop(UNKNOWN)
