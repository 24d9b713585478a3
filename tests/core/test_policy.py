"""Policy: the caller's address and scheme behind proxies, and origins."""

from typing import Any

import pytest

from channelstream.core.policy import CORS, EVERYBODY, Header, Networks, Policy, header
from channelstream.errors import Forbidden, NotAcceptable

BEHIND_PROXY = Policy(trusted_proxies=("10.0.0.0/8", "::1"))
SHOP = b"https://shop.example"


def scope(peer: str | None, *headers: Header, scheme: str = "http") -> dict[str, Any]:
    return {"client": (peer, 1) if peer else None, "headers": list(headers), "scheme": scheme}


def forwarded(value: bytes) -> Header:
    return (b"x-forwarded-for", value)


@pytest.mark.parametrize(
    ("entries", "address", "inside"),
    [
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "127.0.0.2", False),
        (("192.168.5.7/16",), "192.168.9.9", True),
        (("::1", "fe80::/10"), "fe80::5", True),
        (("127.0.0.1",), "::ffff:127.0.0.1", True),
        (("127.0.0.1",), "::1", False),
        ((), "127.0.0.1", False),
        (("127.0.0.1",), "no address", False),
        ((EVERYBODY,), "8.8.8.8", True),
        ((EVERYBODY, "127.0.0.1"), "2001:db8::1", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
    ],
)
def test_networks_hold_addresses(entries: tuple[str, ...], address: str, inside: bool) -> None:
    """IPv4 and IPv6, single and by prefix; `0.0.0.0` is everybody, an IPv4 caller of a dual-stack socket itself."""
    assert Networks(entries).has(address) is inside


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("9.9.9.9", (), "9.9.9.9"),
        ("9.9.9.9", (forwarded(b"127.0.0.1"),), "9.9.9.9"),
        (None, (), "127.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", (forwarded(b"9.9.9.9"),), "9.9.9.9"),
        ("10.0.0.1", (forwarded(b"127.0.0.1, 9.9.9.9"),), "9.9.9.9"),
        ("10.0.0.1", (forwarded(b"9.9.9.9, 10.0.0.7"),), "9.9.9.9"),
        ("10.0.0.1", (forwarded(b"10.0.0.9,, 10.0.0.7 ,"),), "10.0.0.9"),
        ("10.0.0.1", (forwarded(b"127.0.0.1, unknown"),), "unknown"),
        ("::1", (forwarded(b"2001:db8::1"),), "2001:db8::1"),
    ],
)
def test_the_caller_is_the_last_one_no_trusted_proxy_stands_for(
    peer: str | None, headers: tuple[Header, ...], client: str
) -> None:
    """Headers count from trusted proxies only, and what a stranger put before counts never."""
    assert BEHIND_PROXY.client(scope(peer, *headers)) == client


@pytest.mark.parametrize("name", [b"x-forwarded-proto", b"x-url-scheme", b"x-scheme"])
def test_the_scheme_is_what_a_trusted_proxy_says(name: bytes) -> None:
    """From anyone else the header counts nothing, and neither does nonsense."""
    assert BEHIND_PROXY.scheme(scope("10.0.0.1", (name, b"https"))) == "https"
    assert BEHIND_PROXY.scheme(scope("10.0.0.1", (name, b"http"), scheme="https")) == "http"
    assert BEHIND_PROXY.scheme(scope("10.0.0.1", (name, b"gopher"))) == "http"
    assert BEHIND_PROXY.scheme(scope("9.9.9.9", (name, b"https"))) == "http"


@pytest.mark.parametrize(
    ("scheme", "seen"), [("http", "http"), ("ws", "http"), ("https", "https"), ("wss", "https")]
)
def test_without_a_proxy_the_scheme_is_that_of_the_socket(scheme: str, seen: str) -> None:
    """WebSockets count as what they came over."""
    assert Policy().scheme(scope("9.9.9.9", scheme=scheme)) == seen


def test_plain_http_is_refused_where_https_is_enforced() -> None:
    """Whatever a stranger's header claims; a trusted proxy's word counts."""
    strict = Policy(trusted_proxies=("10.0.0.1",), enforce_https=True)
    claim = (b"x-scheme", b"https")
    strict.check_transport(scope("9.9.9.9", scheme="https"))
    strict.check_transport(scope("10.0.0.1", claim))
    for plain in (scope("9.9.9.9"), scope("9.9.9.9", claim), scope("10.0.0.1")):
        with pytest.raises(NotAcceptable):
            strict.check_transport(plain)
        Policy().check_transport(plain)


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), b"https://anywhere.example", True),
        ((SHOP.decode(),), SHOP, True),
        ((SHOP.decode(),), None, True),
        ((SHOP.decode(),), SHOP + b".evil.example", False),
        ((SHOP.decode(),), b"http://shop.example", False),
        ((SHOP.decode(),), b"null", False),
        ((SHOP.decode(),), b"*", False),
    ],
)
def test_streams_are_for_pages_of_allowed_origins(
    origins: tuple[str, ...], origin: bytes | None, allowed: bool
) -> None:
    """Compared whole; programs that are no pages send no Origin and are not asked for one."""
    headers = [] if origin is None else [(b"origin", origin)]
    policy = Policy(origins=origins)
    if allowed:
        policy.check_origin(headers)
    else:
        with pytest.raises(Forbidden):
            policy.check_origin(headers)


def test_any_page_may_read_answers_unless_origins_are_named() -> None:
    """The credential is the conn_id or the signature, never a cookie, so `*` is right."""
    answer = Policy().cors([])
    assert answer == [(b"access-control-allow-origin", b"*"), *CORS]


def test_named_origins_are_answered_by_name() -> None:
    """Caches are told that the answer varies, also where it allows nothing."""
    policy = Policy(origins=(SHOP.decode(),))
    vary = (b"vary", b"origin")
    assert policy.cors([(b"origin", SHOP)]) == [(b"access-control-allow-origin", SHOP), vary, *CORS]
    assert policy.cors([(b"origin", b"https://other.example")]) == [vary]
    assert policy.cors([]) == [vary]


def test_the_first_header_of_a_name_counts() -> None:
    """None where there is none."""
    headers = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert header(headers, b"b") == b"2"
    assert header(headers, b"c") is None


def test_every_line_of_forwarded_addresses_counts() -> None:
    """A proxy that adds a line of its own does not let the caller's line through."""
    scope = {
        "client": ("10.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-for", b"9.9.9.9")],
    }
    assert BEHIND_PROXY.client(scope) == "9.9.9.9"


@pytest.mark.parametrize(
    ("peer", "prefix", "path", "stripped"),
    [
        ("10.0.0.1", b"/push", "/push/info", "/info"),
        ("10.0.0.1", b"/push/", "/push/info", "/info"),
        ("10.0.0.1", b"/push", "/info", "/info"),
        ("10.0.0.1", b"/push", "/pushy/info", "/pushy/info"),
        ("10.0.0.1", b"//evil", "/info", "/info"),
        ("9.9.9.9", b"/push", "/push/info", "/push/info"),
    ],
)
def test_the_prefix_of_a_trusted_proxy_is_stripped(
    peer: str, prefix: bytes, path: str, stripped: str
) -> None:
    """Only whole segments, only from whom we trust, and whether the proxy left it in place or not."""
    scope = {"client": (peer, 1), "headers": [(b"x-script-name", prefix)], "path": path}
    assert BEHIND_PROXY.path(scope) == stripped


def test_a_prefix_that_is_no_path_is_ignored() -> None:
    """It would become part of redirects."""
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-script-name", b"//evil.example")]}
    assert BEHIND_PROXY.root(scope) == ""
