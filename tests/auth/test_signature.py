"""The scheme of the older generations, without HTTP; `tests/api/test_access.py` has what callers see of it."""

from contextlib import suppress

import pytest
from tests.auth.request import Request

from channelstream.apps.app import App
from channelstream.apps.principal import ALL_RIGHTS, Principal
from channelstream.auth.base import Proof
from channelstream.auth.open import OpenAuth
from channelstream.auth.signature import SECRET_HEADER, SignatureAuth, SignatureRules
from channelstream.core.addresses import Networks
from channelstream.errors import BadSignature, ConfigError, Forbidden

NOW_S = 1_700_000_000.0


class Checks:
    """Accepts the token `good`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []

    def check(self, token: str, path: str, now_s: float) -> None:
        self.asked.append((token, path, now_s))
        if token != "good":
            raise BadSignature


def signature_auth(app: App | None = None, raw_secret: str = "loopback") -> tuple[SignatureAuth, Checks]:
    checks = Checks()
    rules = SignatureRules(raw_secret, Networks(("127.0.0.1", "192.0.2.0/24")))
    return SignatureAuth(
        app or App(), rules, lambda: ("the-secret",), lambda _: checks, lambda: NOW_S
    ), checks


def test_the_principal_is_the_server_of_the_scheme_s_application() -> None:
    """It has every right."""
    app = App("shop")
    auth, checks = signature_auth(app)
    principal = auth.principal(Request(headers=[(SECRET_HEADER, b"good")]))
    assert principal == Principal(app, ALL_RIGHTS, binds_body=False)
    assert checks.asked == [("good", "/message", NOW_S)]


def test_the_body_is_not_bound() -> None:
    """These signatures are over the path: any body passes."""
    auth, _ = signature_auth()
    request = Request(headers=[(SECRET_HEADER, b"good")])
    auth.principal(request)
    auth.verify_body(request, b"any")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request(), Forbidden),
        (Request(query=b"secret="), Forbidden),
        (Request(headers=[(SECRET_HEADER, b"")], query=b"secret=good"), Forbidden),
        (Request(headers=[(SECRET_HEADER, b"good")], address="198.51.100.1"), Forbidden),
        (Request(headers=[(SECRET_HEADER, b"bad")], query=b"secret=good"), BadSignature),
        (Request(headers=[(SECRET_HEADER, b"the-secret")]), BadSignature),
        (Request(query=b"secret=the-secret", address="192.0.2.1"), BadSignature),
    ],
)
def test_other_requests_have_no_principal(request_: Request, error: type[Exception]) -> None:
    """No credentials, an address that may not call, a wrong signature, the raw secret where it may not be."""
    auth, _ = signature_auth()
    with pytest.raises(error):
        auth.principal(request_)


@pytest.mark.parametrize(("mode", "address"), [("loopback", "127.0.0.1"), ("always", "192.0.2.1")])
def test_the_raw_secret_needs_no_signature(mode: str, address: str) -> None:
    """In the query, from the callers of the option."""
    auth, checks = signature_auth(raw_secret=mode)
    assert auth.principal(Request(query=b"secret=the-secret", address=address)).rights == ALL_RIGHTS
    assert checks.asked == []


class SecretItself:
    """Accepts one secret as the signature of any path."""

    def __init__(self, secret: str) -> None:
        if secret == "unusable":
            raise ConfigError("signature_checker: cannot use it")
        self.secret = secret

    def check(self, token: str, path: str, now_s: float) -> None:
        if token != self.secret:
            raise BadSignature


def test_a_signature_may_be_of_any_secret_that_is_accepted_now() -> None:
    """As long as callers change to the newest one; the raw secret as well."""
    secrets = ["new", "old"]
    rules = SignatureRules("loopback", Networks(("127.0.0.1",)))
    noted: list[tuple[str, str]] = []
    auth = SignatureAuth(
        App(), rules, lambda: tuple(secrets), SecretItself, lambda: NOW_S, lambda *used: noted.append(used)
    )

    def accepted() -> list[str]:
        found = []
        for each in ("old", "new", "newer", "unusable"):
            for request in (
                Request(headers=[(SECRET_HEADER, each.encode())]),
                Request(query=f"secret={each}".encode()),
            ):
                with suppress(BadSignature):
                    auth.principal(request)
                    found.append(each)
        return found

    assert accepted() == ["old", "old", "new", "new"]
    assert noted == [("default", "127.0.0.1")] * 2
    secrets[:] = ["newer", "new"]
    assert accepted() == ["new", "new", "newer", "newer"]
    secrets[:] = ["unusable", "newer"]
    assert accepted() == ["newer", "newer", "unusable"]


class AcceptsUntil:
    """Accepts one secret as the signature of any path, up to a time."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def check(self, token: str, path: str, now_s: float) -> float | None:
        if token != self.secret or now_s > NOW_S + 60:
            raise BadSignature
        return None if token == "unending" else NOW_S + 60


def test_a_proof_holds_as_long_as_its_signature_is_accepted() -> None:
    """Not after its end, and not if the clock has gone back, or the secrets are others."""
    secrets, now_s = ("new", "old", "unending"), NOW_S
    rules = SignatureRules("loopback", Networks(("127.0.0.1",)))
    auth = SignatureAuth(App(), rules, lambda: secrets, AcceptsUntil, lambda: now_s)

    def proof(token: str) -> Proof | None:
        request = Request(headers=[(SECRET_HEADER, token.encode())])
        auth.principal(request)
        return request.proof

    proven = proof("new")
    assert proven is not None
    assert proven.principal.rights == ALL_RIGHTS
    for later_s, holds in ((0, True), (60, True), (60.1, False), (-0.1, False)):
        now_s = NOW_S + later_s
        assert proven.holds() == holds
    now_s, secrets = NOW_S, ("newer", "new")
    assert not proven.holds()


@pytest.mark.parametrize("token", ["old", "unending"])
def test_what_has_to_be_seen_again_has_no_proof(token: str) -> None:
    """A signature of an older secret, whose use is noted each time; and one whose end is not known."""
    secrets = ("unending",) if token == "unending" else ("new", "old")
    rules = SignatureRules("loopback", Networks(("127.0.0.1",)))
    auth = SignatureAuth(App(), rules, lambda: secrets, AcceptsUntil, lambda: NOW_S)
    request = Request(headers=[(SECRET_HEADER, token.encode())])
    auth.principal(request)
    assert request.proof is None


def test_an_open_call_is_a_stranger_s() -> None:
    """It belongs to the application, and may do nothing but what the call is for."""
    app = App("shop")
    auth = OpenAuth(app)
    request = Request(address="198.51.100.1")
    principal = auth.principal(request)
    auth.verify_body(request, b"any")
    assert principal == Principal(app, frozenset(), binds_body=False)
