"""Signed calls of Pusher's REST API, without HTTP; `tests/pusher` has what callers see."""

import hmac
from hashlib import md5
from urllib.parse import quote, unquote

import pytest
from tests.auth.request import Request

from channelstream.apps.app import App
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.auth.access import AppAccess, RequestSigning
from channelstream.auth.pusher import RIGHTS, PusherAuth
from channelstream.core.addresses import Networks
from channelstream.core.nonces import Nonces
from channelstream.errors import BadSignature, Forbidden, NotFound

NOW_S = 1_700_000_000
KIT = App(pusher=PusherApp("4711", "kit-key", PusherSecrets("kit-secret")))
SHOP = App("shop", pusher=PusherApp("12", "shop-key", PusherSecrets("shop-secret"), path_prefix="/push"))
BLOG = App("blog")
BODY = b'{"name":"hi","channels":["news"],"data":"{\\"n\\":1}"}'
HEAD = f"auth_key=kit-key&auth_timestamp={NOW_S}&auth_version=1.0"


def access(*networks: str) -> AppAccess:
    return AppAccess(RequestSigning.SIGNED, Networks(networks), Nonces(60, 60))


def pusher_auth(wall_s: float = NOW_S) -> PusherAuth:
    rules = {
        "default": access("127.0.0.1", "192.0.2.0/24"),
        "shop": access("127.0.0.1"),
        "blog": access("203.0.113.1"),
    }
    return PusherAuth([KIT, SHOP, BLOG], rules, lambda: wall_s)


def request(query: str, path: str = "/apps/4711/events", raw_path: str = "", **more: str) -> Request:
    target = f"{raw_path or path}?{query}"
    return Request([], query.encode(), path=path, target=target.encode(), **more)


def signed(
    query: str,
    path: str = "/apps/4711/events",
    method: str = "POST",
    secret: str = "kit-secret",
    sent: str = "",
) -> str:
    """Return a query with its signature.

    Args:
        query: as it is signed.
        sent: as it is sent; empty for the same.
    """
    mac = hmac.digest(secret.encode(), f"{method}\n{path}\n{query}".encode(), "sha256").hex()
    return f"{sent or query}&auth_signature={mac}"


def admitted(auth: PusherAuth, call: Request, body: bytes = b"") -> bool:
    try:
        principal = auth.principal(call)
        auth.verify_body(call, body)
    except BadSignature:
        return False
    return principal.app is KIT


def test_the_signatures_of_the_specification() -> None:
    """One with a body, and one of a query that is not escaped."""
    post = f"{HEAD}&body_md5=eec7daa24e885415ce500b4be8ad9342"
    mac = "c530dfb6113902ca397e60065d2efffcd50b4f9ab319884a9d5d8cee5fc80b08"
    assert admitted(pusher_auth(), request(f"{post}&auth_signature={mac}"), BODY)
    get = f"{HEAD}&filter_by_prefix=presence-&info=user_count,subscription_count"
    mac = "9c8b8401ce7de520f06974b2b697b4b87ebc73309b88ad86ca868dd6dada4c87"
    for query in (get, get.replace(",", "%2C")):
        call = request(f"{query}&auth_signature={mac}", "/apps/4711/channels", method="GET")
        assert admitted(pusher_auth(), call)


def test_the_principal_is_the_server_of_the_application_in_the_path() -> None:
    """With the rights that this API needs, and its key as the name of the credentials."""
    principal = pusher_auth().principal(request(signed(HEAD)))
    assert (principal.app, principal.rights, principal.is_proven) == (KIT, RIGHTS, True)
    assert principal.key_id == "pusher:kit-key"
    query = signed(HEAD.replace("kit", "shop"), "/apps/12/events", secret="shop-secret")
    assert pusher_auth().principal(request(query, "/apps/12/events")).app is SHOP


@pytest.mark.parametrize(("is_escaped", "signs_escapes"), [(False, False), (True, False), (True, True)])
def test_sdks_escape_what_they_sign_or_not(is_escaped: bool, signs_escapes: bool) -> None:
    """Values and paths, as far as they can be sent without escapes."""
    plain, escaped = "info=a,b@c;d=e", f"info={quote('a,b@c;d=e')}"
    path, raw_path = "/apps/4711/channels/a@b,c", f"/apps/4711/channels/{quote('a@b,c')}"
    query = signed(
        f"{HEAD}&{escaped if signs_escapes else plain}",
        raw_path if signs_escapes else path,
        sent=f"{HEAD}&{escaped if is_escaped else plain}",
    )
    assert admitted(pusher_auth(), request(query, path, raw_path if is_escaped else path))


@pytest.mark.parametrize("signed_path", ["/push/apps/4711/events", "/apps/4711/events"])
def test_a_prefix_may_be_signed_or_not(signed_path: str) -> None:
    """That which a proxy takes away or adds; no other one."""
    query = signed(HEAD, signed_path)
    assert admitted(pusher_auth(), request(query, root="/push"))
    assert admitted(pusher_auth(), request(query)) is (signed_path == "/apps/4711/events")
    assert not admitted(pusher_auth(), request(query, root="/other")) or signed_path == "/apps/4711/events"


@pytest.mark.parametrize("received", ["/push/apps/12/events", "/apps/12/events", "/push/%61pps/12/events"])
@pytest.mark.parametrize("signed_path", ["/push/apps/12/events", "/apps/12/events", "/other/apps/12/events"])
def test_the_prefix_of_an_application_may_be_signed_or_not(received: str, signed_path: str) -> None:
    """Whether a proxy has taken it away or not; no other one."""
    query = signed(HEAD.replace("kit", "shop"), signed_path, secret="shop-secret")
    call = request(query, unquote(received), received)
    if signed_path.startswith("/other"):
        with pytest.raises(BadSignature):
            pusher_auth().principal(call)
    else:
        assert pusher_auth().principal(call).app is SHOP


def test_names_of_parameters_have_no_case_and_no_order() -> None:
    """They are signed in lower case, sorted."""
    sent = f"Z=1&Auth_Version=1.0&AUTH_KEY=kit-key&auth_timestamp={NOW_S}&a"
    query = signed(f"a=&auth_key=kit-key&auth_timestamp={NOW_S}&auth_version=1.0&z=1", sent=sent)
    assert admitted(pusher_auth(), request(query))


@pytest.mark.parametrize(
    ("more", "body", "is_admitted"),
    [
        ("", b"", True),
        ("&body_md5=d41d8cd98f00b204e9800998ecf8427e", b"", True),
        ("&body_md5=eec7daa24e885415ce500b4be8ad9342", BODY, True),
        ("&body_md5=EEC7DAA24E885415CE500B4BE8AD9342", BODY, True),
        ("&body_md5=eec7daa24e885415ce500b4be8ad9342", b"", False),
        ("&body_md5=eec7daa24e885415ce500b4be8ad9342", BODY + b" ", False),
        ("&body_md5=d41d8cd98f00b204e9800998ecf8427e", BODY, False),
        ("&body_md5=", BODY, False),
        ("&body_md5=", b"", False),
        ("&body_md5=%C3%A4", BODY, False),
        ("", BODY, False),
    ],
)
def test_the_hash_of_a_body_is_signed(more: str, body: bytes, is_admitted: bool) -> None:
    """That of none as well, which the Python SDK sends with every GET."""
    assert md5(BODY).hexdigest() == "eec7daa24e885415ce500b4be8ad9342"
    assert admitted(pusher_auth(), request(signed(HEAD + more)), body) is is_admitted


@pytest.mark.parametrize(
    ("skew_s", "is_admitted"), [(600, True), (-600, True), (601, False), (-601, False), (10**9, False)]
)
def test_a_signature_is_good_for_ten_minutes(skew_s: int, is_admitted: bool) -> None:
    """Each way."""
    assert admitted(pusher_auth(NOW_S + skew_s), request(signed(HEAD))) is is_admitted


@pytest.mark.parametrize(
    "query",
    [
        "",
        HEAD,
        f"{HEAD}&auth_signature=",
        f"{HEAD}&auth_signature=%C3%A4%00",
        signed(HEAD, secret="shop-secret"),
        signed(HEAD, method="GET"),
        signed(HEAD, "/apps/4711/batch_events"),
        signed(HEAD) + "&more=1",
        signed(HEAD).replace("1.0", "1.1"),
        signed(HEAD.replace("1.0", "2.0")),
        signed(HEAD.replace("&auth_version=1.0", "")),
        signed(HEAD.replace("kit-key", "shop-key")),
        signed(HEAD.replace("kit-key", "")),
        signed(HEAD.replace("kit-key", "%C3%A4")),
        signed(HEAD.replace(str(NOW_S), f"+{NOW_S}")),
        signed(HEAD.replace(str(NOW_S), f"{NOW_S}.0")),
        signed(HEAD.replace(str(NOW_S), "")),
        signed(HEAD.replace(str(NOW_S), "9" * 5000)),
        signed(HEAD.replace(str(NOW_S), "%D9%A1%D9%A7" + "0" * 8)),
        signed(HEAD + "&x=1" * 200),
    ],
)
def test_everything_else_is_refused_with_one_error(query: str) -> None:
    """Which fault it is cannot be seen; the options that sign are named."""
    with pytest.raises(
        BadSignature, match="with the `pusher_key` and `pusher_secret` of the server, and check"
    ):
        pusher_auth().principal(request(query))
    with pytest.raises(BadSignature, match="`pusher_secret`"):
        pusher_auth().verify_body(request(query), BODY)


@pytest.mark.parametrize(
    ("path", "address", "error"),
    [
        ("/apps/4712/events", "127.0.0.1", NotFound),
        ("/apps/4711x/events", "127.0.0.1", NotFound),
        ("/apps/\u0664711/events", "127.0.0.1", NotFound),
        ("/apps/default/events", "127.0.0.1", NotFound),
        ("/apps/4711", "127.0.0.1", NotFound),
        ("/users/ann/terminate_connections", "127.0.0.1", NotFound),
        ("/apps/4712/events", "198.51.100.1", Forbidden),
        ("/apps/4711/events", "198.51.100.1", Forbidden),
        ("/apps/4712/events", "203.0.113.1", NotFound),
        ("/apps/4711/events", "203.0.113.1", Forbidden),
        ("/apps/12/events", "192.0.2.1", Forbidden),
    ],
)
def test_address_and_application_come_before_the_signature(
    path: str, address: str, error: type[Exception]
) -> None:
    """403 for an address that may not call, 404 for an unknown id."""
    with pytest.raises(error):
        pusher_auth().principal(request("", path, address=address))


def test_older_secrets_are_accepted_and_reported() -> None:
    """A call without any is refused: an application whose secrets are in a file that was not read yet has none."""
    secrets, older = PusherSecrets(), list[tuple[str, str]]()
    app = App(pusher=PusherApp("4711", "kit-key", secrets))
    rules = {"default": access("127.0.0.1")}
    auth = PusherAuth([app], rules, lambda: NOW_S, lambda *used: older.append(used))
    calls = {each: request(signed(HEAD, secret=each)) for each in ("new", "old", "")}

    def accepted() -> set[str]:
        return {each for each, call in calls.items() if is_accepted(auth, call)}

    assert (accepted(), older) == (set(), [])
    secrets.replace(["new", "old"])
    assert (accepted(), older) == ({"new", "old"}, [("default", "127.0.0.1")])
    secrets.replace(["new"])
    assert accepted() == {"new"}


def is_accepted(auth: PusherAuth, call: Request) -> bool:
    try:
        auth.principal(call)
    except BadSignature:
        return False
    return True
