"""Schemes whose requests name a key: signed as a whole, or with its secret; and the choice among all forms."""

from collections.abc import Iterable

import pytest
from tests.auth.request import Request

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.key_ring import KeyRing
from channelstream.apps.principal import ALL_RIGHTS, Principal, Right
from channelstream.auth.access import AppAccess, RequestSigning
from channelstream.auth.base import AuthRequest, Once
from channelstream.auth.bearer import BearerAuth
from channelstream.auth.hmac import CLOCKS_S, HmacAuth
from channelstream.auth.keyed import KeyFinder
from channelstream.auth.scheme import CHALLENGE, SchemeAuth, repeated
from channelstream.core.addresses import EVERYBODY, Networks
from channelstream.core.nonces import Nonces
from channelstream.core.request_signing import RequestSignature, digest_header, hash_of, sign
from channelstream.errors import BadSignature, Forbidden, Unavailable

NOW_S = 1_800_000_000
AGE_S = 60.0
SECRET, SHOP_SECRET = "a" * 32, "b" * 32
SHOP = App("shop")
KEYS = (
    ApiKey("", "the option", App(), older=("an older one",)),
    ApiKey("web", SECRET, App(), frozenset({Right.PUBLISH})),
    ApiKey("shop", SHOP_SECRET, SHOP),
    ApiKey("old", SECRET, App(), not_after_s=NOW_S - 1),
    ApiKey("weak", "short", App()),
)
NONCE = "n" * 22


def access(signing: RequestSigning = RequestSigning.ANY, allowed: Iterable[str] = (EVERYBODY,)) -> AppAccess:
    return AppAccess(signing, Networks(tuple(allowed)), Nonces(AGE_S, AGE_S))


def finder(app: App | None = None, now_s: float = NOW_S, **rules: AppAccess) -> KeyFinder:
    """Return a finder of the keys; applications without rules of their own admit everybody."""
    every = {"default": access(), "shop": access()} | rules
    return KeyFinder(KeyRing(KEYS), every, lambda: now_s, app)


def signed(
    key_id: str = "web", secret: str = SECRET, body: bytes = b"{}", signed_s: int = NOW_S, nonce: str = NONCE
) -> Request:
    """Return a request with a signature of these values, whose head does not say what its body is."""
    value = sign(key_id, secret, "POST", b"/message", signed_s, nonce, body)
    return Request(headers=[(b"authorization", value.encode()), (b"content-length", b"2")])


def announced(digest: str, body: bytes = b"{}") -> Request:
    """Return a signed request with a digest of its body."""
    request = signed(body=body)
    request.headers.append((b"content-digest", digest.encode()))
    return request


def bearer(token: str, address: str = "127.0.0.1", scheme: str = "http") -> Request:
    return Request(headers=[(b"authorization", f"Bearer {token}".encode())], address=address, scheme=scheme)


def test_a_signed_request_acts_with_the_rights_of_its_key() -> None:
    """What it may do shows when its body has proven it, and its nonce counts once."""
    auth, request = HmacAuth(finder()), signed()
    assert auth.principal(request) == Principal(App(), frozenset({Right.PUBLISH}), "web", is_proven=False)
    assert auth.verify_body(request, b"{}") == Once(f"web:{NONCE}", AGE_S + 1 + CLOCKS_S)
    with pytest.raises(BadSignature):
        auth.principal(request)
    with pytest.raises(BadSignature):
        auth.verify_body(request, b"{}")


def test_a_head_that_has_the_hash_of_the_body_is_proven_alone() -> None:
    """A wrong hash or signature is refused before the body is read; the body has to be that one all the same."""
    auth, request = HmacAuth(finder()), announced(digest_header(b"{}"))
    assert auth.principal(request).is_proven
    with pytest.raises(BadSignature):
        auth.verify_body(request, b"{ }")
    assert auth.verify_body(request, b"{}") == Once(f"web:{NONCE}", AGE_S + 1 + CLOCKS_S)
    with pytest.raises(BadSignature):
        HmacAuth(finder()).principal(announced(digest_header(b"{ }")))
    assert not HmacAuth(finder()).principal(announced("sha-512=:AAAA=:")).is_proven


def test_a_call_whose_nonce_may_be_forgotten_by_now_is_refused() -> None:
    """Also where that happens between its head and its body."""
    rules = access()
    auth, request = HmacAuth(finder(default=rules)), signed()
    auth.principal(request)
    rules.nonces.begin(NOW_S + 1)
    for check in (auth.principal, lambda request: auth.verify_body(request, b"{}")):
        with pytest.raises(Unavailable):
            check(request)


def test_a_signature_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the head, if that has the hash of the body; else with the body."""
    calls: list[bytes] = []
    genuine = RequestSignature.is_genuine

    def counted(
        signature: RequestSignature, secret: str, method: str, target: bytes, body_hash: bytes
    ) -> bool:
        calls.append(body_hash)
        return genuine(signature, secret, method, target, body_hash)

    monkeypatch.setattr(RequestSignature, "is_genuine", counted)
    for request in (announced(digest_header(b"{}")), signed()):
        auth = HmacAuth(finder())
        auth.principal(request)
        auth.verify_body(request, b"{}")
        assert calls == [hash_of(b"{}")]
        calls.clear()


@pytest.mark.parametrize(
    ("more", "is_proven"),
    [
        ((), True),
        ((b"content-length", b"0"), True),
        ((b"content-length", b"5"), False),
        ((b"transfer-encoding", b"chunked"), False),
    ],
)
def test_a_request_without_a_body_is_proven_by_its_head(
    more: tuple[bytes, bytes] | tuple[()], is_proven: bool
) -> None:
    """Its hash is known."""
    value = sign("web", SECRET, "POST", b"/message", NOW_S, NONCE, b"")
    request = Request(headers=[(b"authorization", value.encode()), *([more] if more else [])])
    assert HmacAuth(finder()).principal(request).is_proven == is_proven
    if is_proven:
        request.target = b"/another"
        with pytest.raises(BadSignature):
            HmacAuth(finder()).principal(request)


def test_a_key_names_its_application() -> None:
    """Unless the path does: then no key of another one is accepted."""
    request = signed("shop", SHOP_SECRET)
    assert HmacAuth(finder()).principal(request) == Principal(SHOP, ALL_RIGHTS, "shop", is_proven=False)
    assert HmacAuth(finder(SHOP)).principal(request).app == SHOP
    with pytest.raises(BadSignature):
        HmacAuth(finder(App())).principal(request)


def test_it_is_noted_who_signs_with_an_older_secret() -> None:
    """With the body or before it, or as a bearer key; never one with the newest."""
    noted: list[tuple[str, str]] = []
    rules = {"default": access(), "shop": access()}
    keys = KeyFinder(KeyRing(KEYS), rules, lambda: NOW_S, None, lambda *used: noted.append(used))
    for number, secret in enumerate(("the option", "an older one")):
        HmacAuth(keys).verify_body(signed("", secret, nonce=f"{number}{NONCE}"), b"{}")
        assert len(noted) == number
        request = signed("", secret)
        request.headers.append((b"content-digest", digest_header(b"{}").encode()))
        HmacAuth(keys).principal(request)
        BearerAuth(keys).principal(bearer(f".{secret}"))
    assert noted == [("default", "127.0.0.1")] * 3


@pytest.mark.parametrize("secret", ["the option", "an older one"])
def test_the_option_secret_signs_too(secret: str) -> None:
    """As the key with the empty id, and those before it, which are accepted as well."""
    auth, request = HmacAuth(finder()), signed("", secret)
    assert auth.principal(request).rights == ALL_RIGHTS
    auth.verify_body(request, b"{}")
    assert BearerAuth(finder()).principal(bearer(f".{secret}")).rights == ALL_RIGHTS


@pytest.mark.parametrize(
    "request_",
    [
        Request(headers=[(b"authorization", b"CS-HMAC-SHA256")]),
        Request(headers=[(b"authorization", b"CS-HMAC-SHA256 \xff")]),
        Request(),
        signed("unknown"),
        signed("old"),
        signed("weak", "short"),
        signed(signed_s=NOW_S - 62),
        signed(signed_s=NOW_S + 61),
    ],
)
def test_a_wrong_head_is_refused_before_the_body_is_read(request_: Request) -> None:
    """No signature, a key that is not accepted, or another time."""
    with pytest.raises(BadSignature):
        HmacAuth(finder()).principal(request_)


@pytest.mark.parametrize(
    ("request_", "body"), [(signed(), b"{ }"), (signed(), b""), (signed(secret="c" * 32), b"{}")]
)
def test_a_wrong_body_or_secret_is_refused_and_uses_no_nonce(request_: Request, body: bytes) -> None:
    """The owner of the key can still use it."""
    auth = HmacAuth(finder())
    auth.principal(request_)
    with pytest.raises(BadSignature):
        auth.verify_body(request_, body)
    auth.verify_body(signed(), b"{}")


def test_a_body_that_came_too_late_is_refused() -> None:
    """Its nonce may be forgotten already."""
    times = iter([NOW_S, NOW_S, NOW_S, NOW_S + 100])
    keys = KeyFinder(KeyRing(KEYS), {"default": access()}, lambda: next(times))
    auth, request = HmacAuth(keys), signed()
    auth.principal(request)
    with pytest.raises(BadSignature):
        auth.verify_body(request, b"{}")


def test_a_key_that_was_revoked_meanwhile_is_refused() -> None:
    """Between the head and the body."""
    ring = KeyRing(KEYS)
    auth, request = HmacAuth(KeyFinder(ring, {"default": access()}, lambda: NOW_S)), signed()
    auth.principal(request)
    ring.replace(())
    with pytest.raises(BadSignature):
        auth.verify_body(request, b"{}")


def test_addresses_are_those_of_the_application() -> None:
    """One that may call none learns so; one that may call another learns nothing about the key."""
    keys = finder(default=access(allowed=["192.0.2.1"]), shop=access(allowed=["192.0.2.2"]))
    for address, error in (("192.0.2.9", Forbidden), ("192.0.2.2", BadSignature)):
        request = signed()
        request.address = address
        with pytest.raises(error):
            HmacAuth(keys).principal(request)
    request = signed()
    request.address = "192.0.2.1"
    assert HmacAuth(keys).principal(request).app == App()


@pytest.mark.parametrize(("address", "scheme"), [("127.0.0.1", "http"), ("192.0.2.1", "https")])
def test_a_bearer_key_is_accepted_over_tls_or_from_this_machine(address: str, scheme: str) -> None:
    """It proves itself, whatever the body is."""
    auth, request = BearerAuth(finder()), bearer(f"web.{SECRET}", address, scheme)
    assert auth.principal(request) == Principal(App(), frozenset({Right.PUBLISH}), "web")
    auth.verify_body(request, b"any")


def test_a_bearer_key_over_a_network_without_tls_is_refused() -> None:
    """With a text that says why: the secret has to be replaced."""
    with pytest.raises(Forbidden, match="revoke it"):
        BearerAuth(finder()).principal(bearer(f"web.{SECRET}", "192.0.2.1"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "web",
        "web.",
        f"web.{SECRET}x",
        f"web.{SECRET[1:]}",
        f"shop.{SECRET}",
        "weak.short",
        f"old.{SECRET}",
        "web.ÿ",
    ],
)
def test_another_token_is_refused(token: str) -> None:
    """One answer for all of them."""
    with pytest.raises(BadSignature):
        BearerAuth(finder()).principal(bearer(token))


class Named:
    """Admits every request, with its own name as the id of the key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def principal(self, request: AuthRequest) -> Principal:
        return Principal(App(), key_id=self.name)

    def verify_body(self, request: AuthRequest, body: bytes) -> Once:
        return Once(self.name, 1.0)


class Refusing:
    """Refuses every request."""

    def principal(self, request: AuthRequest) -> Principal:
        raise BadSignature

    def verify_body(self, request: AuthRequest, body: bytes) -> Once:
        raise BadSignature


HMAC = (b"authorization", b"cs-hmac-sha256 x")
BEARER = (b"authorization", b"bearer x")
BASIC = (b"authorization", b"Basic x")
OLD = (b"x-channelstream-secret", b"x")


@pytest.mark.parametrize(
    ("request_", "with_any", "with_signed", "with_old"),
    [
        (Request(headers=[HMAC]), "signed", "signed", "old"),
        (Request(headers=[HMAC, OLD]), "signed", "signed", "old"),
        (Request(headers=[BEARER]), "bearer", "bearer", "old"),
        (Request(headers=[BEARER, OLD]), "old", "", "old"),
        (Request(headers=[BEARER], query=b"secret=x"), "old", "", "old"),
        (Request(headers=[BASIC]), "old", "", "old"),
        (Request(headers=[BASIC, OLD]), "old", "", "old"),
        (Request(), "old", "", "old"),
    ],
)
def test_the_headers_of_a_request_choose_its_scheme(
    request_: Request, with_any: str, with_signed: str, with_old: str
) -> None:
    """Among those of `request_signing`: with `old`, Authorization is nobody's business here, as it was before."""
    for signing, name in zip(RequestSigning, (with_old, with_signed, with_any), strict=True):
        auth = SchemeAuth(signing, Named("signed"), Named("bearer"), Named("old"))
        if name:
            assert auth.principal(request_).key_id == name
            assert auth.verify_body(request_, b"") == Once(name, 1.0)
        else:
            with pytest.raises(Forbidden, match="request_signing") as refusal:
                auth.principal(request_)
            assert CHALLENGE in refusal.value.headers


@pytest.mark.parametrize("signing", RequestSigning)
def test_a_refusal_says_that_requests_may_be_signed_as_a_whole(signing: RequestSigning) -> None:
    """So a client knows that its signature was wrong, and not unknown."""
    auth = SchemeAuth(signing, Refusing(), Refusing(), Refusing())
    for call in (lambda: auth.principal(signed()), lambda: auth.verify_body(signed(), b"")):
        with pytest.raises(BadSignature) as refusal:
            call()
        assert (CHALLENGE in refusal.value.headers) == (signing is not RequestSigning.OLD)


@pytest.mark.parametrize("signing", [RequestSigning.OLD, RequestSigning.SIGNED])
def test_an_application_that_takes_another_form_refuses_a_key(signing: RequestSigning) -> None:
    """A key of an application that takes old signatures only signs nothing; a bearer key needs `any`."""
    keys = finder(default=access(signing))
    with pytest.raises(BadSignature):
        BearerAuth(keys).principal(bearer(f"web.{SECRET}"))
    if signing is RequestSigning.OLD:
        with pytest.raises(BadSignature):
            HmacAuth(keys).principal(signed())
    else:
        assert HmacAuth(keys).principal(signed()).key_id == "web"


def test_a_request_that_another_node_has_answered_is_refused_as_any_other() -> None:
    """Its answer does not tell that the signature was right."""
    error = repeated()
    assert (error.http_status, error.code, f"{error}") == (401, BadSignature().code, f"{BadSignature()}")
    assert CHALLENGE in error.headers
