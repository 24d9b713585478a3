"""Policy: the caller's address and scheme behind proxies, and origins."""

import pytest

from channelstream.core.addresses import UNKNOWN
from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead, read_head
from channelstream.core.policy import CORS, Policy
from channelstream.errors import Forbidden, NotAcceptable

BEHIND_PROXY = Policy(trusted_proxies=("10.0.0.0/8", "::1"))
SHOP = b"https://shop.example"


def received(peer: str | None, *headers: Header, scheme: str = "http", target: bytes = b"/") -> RequestHead:
    lines = b"".join(b"%b: %b\r\n" % field for field in headers)
    data = b"GET %b HTTP/1.1\r\nhost: push.example\r\n%b\r\n" % (target, lines)
    return read_head(data, (peer, 1) if peer else None, scheme)


def forwarded(value: bytes) -> Header:
    return (b"x-forwarded-for", value)


def standard(value: bytes) -> Header:
    return (b"forwarded", value)


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
        ("::ffff:9.9.9.9", (forwarded(b"127.0.0.1"),), "9.9.9.9"),
        ("::ffff:10.0.0.1", (forwarded(b"::ffff:9.9.9.9"),), "9.9.9.9"),
        ("10.0.0.1", (forwarded(b"127.0.0.1, 9.9.9.9:51008, [::1]:443, 10.0.0.7:80"),), "9.9.9.9"),
        ("10.0.0.1", (forwarded(b"127.0.0.1, 9.9.9.9:x"),), UNKNOWN),
        ("9.9.9.9", (standard(b"for=127.0.0.1"),), "9.9.9.9"),
        ("10.0.0.1", (standard(b""),), "10.0.0.1"),
        ("10.0.0.1", (standard(b"for=127.0.0.1, for=9.9.9.9"),), "9.9.9.9"),
        ("10.0.0.1", (standard(b"for=127.0.0.1"), standard(b'for=9.9.9.9;by=_x, for="[::1]:8"')), "9.9.9.9"),
        ("10.0.0.1", (standard(b"for=127.0.0.1, for=_hidden, for=10.0.0.7"),), UNKNOWN),
        ("10.0.0.1", (standard(b'for=127.0.0.1;x=", for=9.9.9.9'),), UNKNOWN),
    ],
)
def test_the_caller_is_the_last_hop_that_is_no_trusted_proxy(
    peer: str | None, headers: tuple[Header, ...], client: str
) -> None:
    """Headers count from trusted proxies only, and earlier hops that a client wrote never do."""
    assert BEHIND_PROXY.client(received(peer, *headers)) == client


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", None])
@pytest.mark.parametrize("policy", [Policy(), Policy(trusted_proxies=("10.0.0.1",))])
@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip"])
def test_the_callers_of_an_untrusted_proxy_on_this_machine_are_not_local(
    name: bytes, policy: Policy, peer: str | None
) -> None:
    """Also one whom the proxy calls local: a stranger may have written that. The address is that of the proxy, as in 0.7."""
    passed_on = received(peer, (b"accept", b"*/*"), (name, b"127.0.0.1"))
    direct = received(peer, (b"x-forwarded-proto", b"https"))
    assert [policy.is_local(request) for request in (passed_on, direct)] == [False, True]
    assert policy.client(passed_on) == policy.client(direct)


def test_who_is_on_this_machine_behind_a_trusted_proxy() -> None:
    policy = Policy(trusted_proxies=("127.0.0.1",))
    callers = [b"127.0.0.1", b"9.9.9.9", b"unknown"]
    found = [policy.is_local(received("127.0.0.1", forwarded(caller))) for caller in callers]
    assert found == [True, False, False]
    assert not policy.is_local(received("9.9.9.9"))


def test_an_untrusted_proxy_is_reported_with_its_address() -> None:
    """A trusted one is not, nor is one on another machine."""
    seen: list[str] = []
    policy = Policy(trusted_proxies=("127.0.0.1",), on_untrusted=seen.append)
    for peer in ("127.0.0.1", "9.9.9.9", "::1"):
        policy.is_local(received(peer, forwarded(b"8.8.8.8")))
    assert seen == ["::1"]


@pytest.mark.parametrize(
    ("listed", "standardized", "client"),
    [
        (b"9.9.9.9", b"for=9.9.9.9", "9.9.9.9"),
        (b"127.0.0.1, 9.9.9.9:80", b"for=9.9.9.9, for=10.0.0.7", "9.9.9.9"),
        (b"9.9.9.9", b"for=127.0.0.1", UNKNOWN),
        (b"127.0.0.1", b"for=9.9.9.9", UNKNOWN),
        (b"9.9.9.9", b"for=_hidden", UNKNOWN),
        (b"unknown", b"for=127.0.0.1", UNKNOWN),
    ],
)
def test_headers_that_disagree_name_no_caller(listed: bytes, standardized: bytes, client: str) -> None:
    """A proxy that sets one of them may pass on the other as the client wrote it, and which one is unknown."""
    assert BEHIND_PROXY.client(received("10.0.0.1", forwarded(listed), standard(standardized))) == client


@pytest.mark.parametrize("name", [b"x-forwarded-proto", b"x-url-scheme", b"x-scheme"])
def test_the_scheme_is_what_a_trusted_proxy_says(name: bytes) -> None:
    """From other peers the header is ignored, and so is a malformed one."""
    assert BEHIND_PROXY.scheme(received("10.0.0.1", (name, b"https"))) == "https"
    assert BEHIND_PROXY.scheme(received("10.0.0.1", (name, b"http"), scheme="https")) == "http"
    assert BEHIND_PROXY.scheme(received("10.0.0.1", (name, b"gopher"))) == "http"
    assert BEHIND_PROXY.scheme(received("9.9.9.9", (name, b"https"))) == "http"
    assert BEHIND_PROXY.scheme(received("10.0.0.1", (name, b""))) == "http"


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        (((b"x-forwarded-proto", b"WSS"),), "https"),
        (((b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http")), "http"),
        (((b"x-forwarded-proto", b"https, http"),), "http"),
        (((b"x-forwarded-proto", b"http,https"),), "https"),
        (((b"x-forwarded-proto", b"https, http"), forwarded(b"9.9.9.9, 10.0.0.7")), "https"),
        (((b"x-forwarded-proto", b"https, http"), forwarded(b"127.0.0.1, 9.9.9.9")), "http"),
        (((b"x-forwarded-proto", b"https, http"), forwarded(b"1.1.1.1, 9.9.9.9, 10.0.0.7")), "http"),
        (((b"x-forwarded-proto", b"https"), (b"x-scheme", b"http")), "http"),
        (((b"x-forwarded-proto", b"http"), standard(b"for=9.9.9.9;proto=https")), "http"),
        ((standard(b"for=9.9.9.9;proto=https"),), "https"),
        ((standard(b"for=9.9.9.9;proto=https, for=10.0.0.7;proto=http"),), "https"),
        ((standard(b"for=127.0.0.1;proto=https, for=9.9.9.9;proto=http"),), "http"),
        ((standard(b"for=127.0.0.1;proto=https, for=9.9.9.9"),), "http"),
        ((standard(b'for=9.9.9.9;proto="https'),), "http"),
    ],
)
def test_the_scheme_is_that_of_the_call_to_the_first_trusted_proxy(
    headers: tuple[Header, ...], scheme: str
) -> None:
    """Of a list the item beside the caller's address, else the last one; `https` if no header denies it."""
    assert BEHIND_PROXY.scheme(received("10.0.0.1", *headers)) == scheme


@pytest.mark.parametrize(
    ("peer", "headers", "host"),
    [
        ("10.0.0.1", (standard(b"for=9.9.9.9;host=push.example"),), "push.example"),
        ("10.0.0.1", (standard(b"for=127.0.0.1;host=evil.example, for=9.9.9.9"),), ""),
        ("10.0.0.1", (standard(b"for=9.9.9.9;host=evil.example"), forwarded(b"9.9.9.9")), ""),
        ("10.0.0.1", (), ""),
        ("9.9.9.9", (standard(b"for=9.9.9.9;host=evil.example"),), ""),
    ],
)
def test_the_host_is_what_a_trusted_proxy_says_in_forwarded(
    peer: str, headers: tuple[Header, ...], host: str
) -> None:
    """Only of the call to the first trusted proxy, and only where that header is the one the proxy sets."""
    assert BEHIND_PROXY.host(received(peer, *headers)) == host


@pytest.mark.parametrize(
    ("scheme", "seen"), [("http", "http"), ("ws", "http"), ("https", "https"), ("wss", "https")]
)
def test_without_a_proxy_the_scheme_is_that_of_the_socket(scheme: str, seen: str) -> None:
    """`ws` and `wss` count as `http` and `https`."""
    assert Policy().scheme(received("9.9.9.9", scheme=scheme)) == seen


def test_plain_http_is_refused_where_https_is_enforced() -> None:
    """Whatever a stranger's header claims; a trusted proxy's word counts."""
    strict = Policy(trusted_proxies=("10.0.0.1",), enforce_https=True)
    claim = (b"x-scheme", b"https")
    strict.check_transport(received("9.9.9.9", scheme="https"))
    strict.check_transport(received("10.0.0.1", claim))
    for plain in (received("9.9.9.9"), received("9.9.9.9", claim), received("10.0.0.1")):
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
        (("safari-web-extension://a1b2-c3",), b"safari-web-extension://A1B2-C3", True),
    ],
)
def test_streams_are_for_pages_of_allowed_origins(
    origins: tuple[str, ...], origin: bytes | None, allowed: bool
) -> None:
    """Compared whole, but not by case, in which browsers differ for apps. Programs that are no pages need no Origin."""
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
    assert answer == ((b"access-control-allow-origin", b"*"), *CORS)


def test_named_origins_are_answered_by_name() -> None:
    """The answer says to caches that it varies, also where it allows nothing."""
    policy = Policy(origins=(SHOP.decode(),))
    vary = (b"vary", b"origin")
    assert policy.cors([(b"origin", SHOP)]) == ((b"access-control-allow-origin", SHOP), vary, *CORS)
    assert policy.cors([(b"origin", b"https://other.example")]) == (vary,)
    assert policy.cors([]) == (vary,)
    extension = b"safari-web-extension://A1B2-C3"
    assert Policy(origins=(extension.decode().lower(),)).cors([(b"origin", extension)]) == (
        (b"access-control-allow-origin", extension),
        vary,
        *CORS,
    )


def test_every_line_of_forwarded_addresses_counts() -> None:
    """A proxy that adds a line of its own does not let the caller's line through."""
    lines = (forwarded(b"127.0.0.1"), forwarded(b"9.9.9.9"))
    assert BEHIND_PROXY.client(received("10.0.0.1", *lines)) == "9.9.9.9"


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
    """Only whole segments, only from trusted proxies, and whether the proxy left it in place or not."""
    head = received(peer, (b"x-script-name", prefix), target=path.encode())
    assert BEHIND_PROXY.path(head) == stripped


def test_a_prefix_that_is_no_path_is_ignored() -> None:
    """It would become part of redirects."""
    assert BEHIND_PROXY.root(received("10.0.0.1", (b"x-script-name", b"//evil.example"))) == ""


def test_the_paths_of_an_application_begin_with_its_prefix() -> None:
    """After that of a proxy, and not in the paths that the policy is asked about."""
    policy = Policy(("10.0.0.1",), prefix="/app/shop")
    proxied = received("10.0.0.1", (b"x-script-name", b"/push"))
    assert policy.root(proxied) == "/push/app/shop"
    assert policy.root(received("10.0.0.2")) == "/app/shop"


@pytest.mark.parametrize("proxy", [b"", b"/push"])
@pytest.mark.parametrize("app", [b"", b"/app/shop"])
@pytest.mark.parametrize(("path", "query"), [(b"/message", b""), (b"/mess%61ge", b"a=b%20c&d=/push/")])
def test_the_target_has_no_prefix(proxy: bytes, app: bytes, path: bytes, query: bytes) -> None:
    """Neither that of a trusted proxy, nor that of the application; what remains is as it was received."""
    policy = Policy(("10.0.0.1",), prefix=app.decode())
    script_name = (b"x-script-name", b"/push")
    target = path + (b"?" + query if query else b"")
    assert policy.target(received("10.0.0.1", script_name, target=proxy + app + target)) == target
    elsewhere = received("10.0.0.2", script_name, target=proxy + app + target)
    assert policy.target(elsewhere) == (proxy and proxy + app) + target
