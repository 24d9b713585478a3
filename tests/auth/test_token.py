"""Tokens: who is believed, and what an attacker gets (the attacks of RFC 8725, 2)."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from channelstream.apps.api_key import ApiKey, fingerprint
from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.apps.key_ring import KeyRing
from channelstream.apps.principal import Right
from channelstream.auth.issuer import Issuer, SignedBy
from channelstream.auth.public_keys import MAX_KEYS, read_keys
from channelstream.auth.token import MAX_BYTES, TokenAuth, TokenRules, UnknownKey
from channelstream.errors import BadToken, OverreachingToken

NOW_S = 1_700_000_000.0
SHOP, BLOG = App("shop"), App("blog")
SECRET, OTHER_SECRET = "s" * 32, "o" * 32
RSA, EC, OTHER_EC, ED = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
)
CLAIMS: dict[str, Any] = {"sub": "ann", "exp": NOW_S + 60}


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def jwk(key: Any, algorithm: SignedBy, **more: Any) -> dict[str, Any]:
    return {**get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(claims: Any, secret: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(CLAIMS | claims, secret, algorithm, header)


def raw(header: dict[str, Any], payload: bytes, secret: bytes = b"") -> str:
    """Sign whatever this is with HMAC-SHA256, as no library would."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), payload)]
    text = b".".join(parts)
    mac = hmac.new(secret, text, hashlib.sha256).digest() if secret else b""
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


RING = KeyRing(
    [
        ApiKey("", "weak", App()),
        ApiKey("main", SECRET, SHOP),
        ApiKey("", "n" * 32, SHOP, older=(SECRET, "short")),
        ApiKey("blog", OTHER_SECRET, BLOG),
        ApiKey("old", SECRET, SHOP, not_after_s=NOW_S - 1),
        ApiKey("reader", SECRET, SHOP, frozenset({Right.CONNECT})),
        ApiKey("printer", SECRET, SHOP, frozenset({Right.PUBLISH})),
    ]
)
ISSUERS = (
    Issuer("rs", SHOP, SignedBy.RS256, read_keys(pem(RSA), SignedBy.RS256)),
    Issuer("es", SHOP, SignedBy.ES256, read_keys(key_set(jwk(EC, SignedBy.ES256, kid="e1")), SignedBy.ES256)),
    Issuer("ed", BLOG, SignedBy.EDDSA, read_keys(pem(ED), SignedBy.EDDSA)),
)


def checked(token: str, now_s: float = NOW_S, app: App | None = None, audience: str = "") -> Client:
    rules = dict.fromkeys((SHOP.id, BLOG.id), TokenRules(3600, 60, audience))
    return TokenAuth(rules, RING, ISSUERS).client(token, now_s, app)


def test_a_token_says_who_a_client_is_and_what_it_may_do() -> None:
    """All claims; those that mean nothing here are ignored."""
    token = signed(
        {
            "channels": ["news", "news"],
            "subscribe": ["room.*"],
            "publish": ["room.1"],
            "history": ["news"],
            "presence": ["**"],
            "state": {"color": "red", "age": 7, "gone": None},
            "public": ["color"],
            "jti": "t1",
            "iat": NOW_S - 5,
            "nbf": NOW_S - 5,
            "name": "Ann",
        },
        kid="main",
    )
    assert checked(token) == Client(
        SHOP,
        "ann",
        NOW_S + 60,
        Grants(Patterns(("room.*",)), Patterns(("room.1",)), Patterns(("news",)), Patterns(("**",))),
        ("news",),
        {"color": "red", "age": 7, "gone": None},
        ("color",),
        "t1",
        NOW_S - 5,
        "main",
        fingerprint(SECRET),
    )


def test_a_token_may_leave_out_all_but_the_user_and_its_end() -> None:
    """Then it only opens a connection."""
    assert checked(signed({}, kid="main")) == Client(
        SHOP, "ann", NOW_S + 60, key_id="main", signed_with=fingerprint(SECRET)
    )


def test_a_token_may_be_signed_with_an_older_secret() -> None:
    """As long as it is accepted; which one it was is kept. One that is short signs none."""
    for secret in ("n" * 32, SECRET):
        assert checked(signed({}, secret), app=SHOP).signed_with == fingerprint(secret)
    by_short = raw({"alg": "HS256"}, json.dumps(CLAIMS).encode(), b"short")
    for token in (by_short, signed({}, OTHER_SECRET)):
        with pytest.raises(BadToken):
            checked(token, app=SHOP)


@pytest.mark.parametrize(
    ("issuer", "key", "algorithm", "header", "app"),
    [
        ("rs", RSA, "RS256", {}, SHOP),
        ("rs", RSA, "RS256", {"kid": "any"}, SHOP),
        ("es", EC, "ES256", {"kid": "e1"}, SHOP),
        ("es", EC, "ES256", {}, SHOP),
        ("ed", ED, "EdDSA", {}, BLOG),
    ],
)
def test_an_issuer_signs_for_its_application(
    issuer: str, key: Any, algorithm: str, header: dict[str, Any], app: App
) -> None:
    """With the key that its token names, or with its only one."""
    client = checked(signed({"iss": issuer}, key, algorithm, **header))
    assert (client.app, client.key_id) == (app, None)


ATTACKS: dict[str, str] = {
    "no signature": raw({"alg": "none", "kid": "main"}, json.dumps(CLAIMS).encode()),
    "no signature, other case": raw({"alg": "nOnE", "kid": "main"}, json.dumps(CLAIMS).encode()),
    "no signature of an issuer": raw({"alg": "none"}, json.dumps(CLAIMS | {"iss": "rs"}).encode()),
    "no algorithm": raw({"kid": "main"}, json.dumps(CLAIMS).encode(), SECRET.encode()),
    "public key as a secret": raw({"alg": "HS256"}, json.dumps(CLAIMS | {"iss": "rs"}).encode(), pem(RSA)),
    "public key as a secret, no issuer": raw({"alg": "HS256"}, json.dumps(CLAIMS).encode(), pem(RSA)),
    "HS512": signed({}, SECRET * 2, "HS512", kid="main"),
    "secret of another application": signed({}, OTHER_SECRET, kid="main"),
    "key that is not there": signed({}, kid="gone"),
    "expired key": signed({}, kid="old"),
    "weak secret": raw({"alg": "HS256"}, json.dumps(CLAIMS).encode(), b"weak"),
    "kid of another issuer": signed({"iss": "rs"}, EC, "ES256", kid="e1"),
    "kid of an issuer, no issuer": signed({}, EC, "ES256", kid="e1"),
    "key of an application for an issuer": signed({"iss": "es"}, kid="main"),
    "key of another issuer": signed({"iss": "ed"}, ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    "own key in the header": signed({"iss": "rs"}, EC, "ES256", jwk=jwk(EC, SignedBy.ES256)),
    "address of a key in the header": signed({"iss": "ed"}, EC, "ES256", jku="http://127.0.0.1/keys"),
    "kid that is no text": raw({"alg": "HS256", "kid": 7}, json.dumps(CLAIMS).encode(), SECRET.encode()),
    "critical extension": raw(
        {"alg": "HS256", "kid": "main", "crit": ["b64"], "b64": False}, b"", SECRET.encode()
    ),
    "payload that is no JSON": raw({"alg": "HS256", "kid": "main"}, b"{", SECRET.encode()),
    "payload nested deep": raw({"alg": "HS256", "kid": "main"}, b"[" * 5000, SECRET.encode()),
    "two segments": "a.b",
    "nothing": "",
    "other characters": signed({}, kid="main") + "é",
    "half a character": signed({}, kid="main") + "\ud800",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gets_one_answer(name: str) -> None:
    """The answer names no key and no reason."""
    with pytest.raises(BadToken) as refused:
        checked(ATTACKS[name])
    assert refused.value.message == "The token is not accepted: get a fresh one."


def test_a_token_that_is_too_long_is_refused_with_the_reason() -> None:
    """The application would sign one as long again; a token of the greatest length is accepted."""
    longest = signed({"name": "x" * (MAX_BYTES * 3 // 4 - 140)}, kid="main")
    assert MAX_BYTES - 100 < len(longest) <= MAX_BYTES
    checked(longest)
    with pytest.raises(BadToken, match="longer than 8,192 bytes"):
        checked("x" * (MAX_BYTES + 1))


def test_a_changed_token_is_refused() -> None:
    """Whichever of its claims is changed."""
    header, _, signature = signed({}, kid="main").split(".")
    payload = base64.urlsafe_b64encode(json.dumps(CLAIMS | {"sub": "bob"}).encode()).rstrip(b"=").decode()
    with pytest.raises(BadToken):
        checked(f"{header}.{payload}.{signature}")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW_S}, "has expired"),
        ({"exp": NOW_S + 3661}, "for longer than 3600 seconds"),
        ({"nbf": NOW_S + 61}, "not valid yet"),
        ({"iat": NOW_S + 61}, "not valid yet"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"subscribe": ["room*"]}, "a star"),
        ({"subscribe": "room"}, "subscribe"),
        ({"publish": ["x"] * 101}, "at most 100"),
        ({"channels": [""]}, "channels"),
        ({"state": {"a": []}}, "state"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["a", "b"]}, "audience"),
    ],
)
def test_faulty_claims_are_refused_with_the_reason(claims: dict[str, Any], reason: str) -> None:
    """Only to a client whose token has a valid signature."""
    with pytest.raises(BadToken, match=reason):
        checked(signed(claims, kid="main"))


@pytest.mark.parametrize("text", ["1e400", "NaN", "Infinity"])
def test_a_time_that_is_no_number_is_refused(text: str) -> None:
    """Otherwise a token would have no end."""
    payload = f'{{"sub":"ann","exp":{text}}}'.encode()
    with pytest.raises(BadToken):
        checked(raw({"alg": "HS256", "kid": "main"}, payload, SECRET.encode()))


def test_a_clock_ahead_of_the_server_s_is_forgiven() -> None:
    """As far as the option says."""
    checked(signed({"iat": NOW_S + 60, "nbf": NOW_S + 60, "exp": NOW_S + 3660}, kid="main"))


def test_an_audience_is_named() -> None:
    """By every token, where the option is set."""
    for aud in ("push", ["other", "push"]):
        checked(signed({"aud": aud}, kid="main"), audience="push")
    with pytest.raises(BadToken, match="audience"):
        checked(signed({}, kid="main"), audience="push")


@pytest.mark.parametrize(
    ("key_id", "claims", "reason"),
    [
        ("printer", {}, "may not open connections"),
        ("reader", {"publish": ["a"]}, "may not grant publish: it lacks the right 'publish'."),
        ("reader", {"state": {"a": 1}}, "may not grant state: it lacks the right 'state'."),
        ("reader", {"history": ["a"]}, "may not grant history: it lacks the right 'info'."),
        ("reader", {"presence": ["a"]}, "may not grant presence: it lacks the right 'info'."),
    ],
)
def test_a_key_grants_only_what_it_may_do_itself(key_id: str, claims: dict[str, Any], reason: str) -> None:
    """Otherwise the owner of a key with few rights could make a token with more."""
    with pytest.raises(OverreachingToken, match=re.escape(reason)):
        checked(signed(claims, kid=key_id))
    checked(signed({"subscribe": ["a"], "channels": ["b"]}, kid="reader"))


def test_a_token_is_for_the_application_that_the_request_names() -> None:
    """A token of another application is none."""
    tokens = {SHOP.id: signed({}, kid="main"), BLOG.id: signed({"iss": "ed"}, ED, "EdDSA")}
    for app, other in ((SHOP, BLOG), (BLOG, SHOP)):
        assert checked(tokens[app.id], app=app).app == app
        with pytest.raises(BadToken):
            checked(tokens[app.id], app=other)


def test_an_application_without_rules_accepts_no_tokens() -> None:
    """Whatever its keys are."""
    with pytest.raises(BadToken, match="accepts no tokens"):
        TokenAuth({BLOG.id: TokenRules(3600)}, RING).client(signed({}, kid="main"), NOW_S)


def test_a_client_is_accepted_as_long_as_its_key_is() -> None:
    """A running server may read other keys."""
    ring = KeyRing(RING)
    auth = TokenAuth({SHOP.id: TokenRules(3600)}, ring)
    client = auth.client(signed({}, kid="main"), NOW_S)
    assert auth.accepts(client, NOW_S)
    ring.replace([])
    assert not auth.accepts(client, NOW_S)


def test_a_key_that_an_issuer_does_not_have_yet() -> None:
    """The keys may have to be read again: the error says whose."""
    with pytest.raises(UnknownKey) as refused:
        checked(signed({"iss": "es"}, EC, "ES256", kid="e2"))
    assert refused.value.issuer == "es"


@given(st.text() | st.text(st.sampled_from("ab.=-_"), max_size=40))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    """No other error comes out."""
    with pytest.raises(BadToken):
        checked(text)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text() | st.floats(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    ).map(lambda each: json.dumps(each).encode())
)
def test_any_signed_payload_is_accepted_or_refused(payload: bytes) -> None:
    """No other error comes out, whatever an application signs."""
    with pytest.raises(BadToken):
        checked(raw({"alg": "HS256", "kid": "main"}, payload, SECRET.encode()))


# -- keys of issuers


def test_a_set_of_keys_has_those_for_signatures_of_the_algorithm() -> None:
    """The others are left out: another type, another use, another algorithm, an id that is no text, a short key."""
    short = rsa.generate_private_key(65537, 1024)
    text = key_set(
        jwk(RSA, SignedBy.RS256, kid="good", use="sig", alg="RS256"),
        jwk(RSA, SignedBy.RS256, kid="encryption", use="enc"),
        jwk(RSA, SignedBy.RS256, kid="other", alg="RS512"),
        jwk(RSA, SignedBy.RS256, kid=7),
        jwk(EC, SignedBy.ES256, kid="ec"),
        jwk(short, SignedBy.RS256, kid="short"),
        {"kty": "oct", "k": "AAAA", "kid": "oct"},
        {"kty": "RSA", "n": 5, "e": "AQAB", "kid": "broken"},
        {"kty": "RSA", "n": "", "e": "AQAB", "kid": "empty"},
    )
    keys = read_keys(text[:-2] + b", 5]}", SignedBy.RS256)
    assert list(keys) == ["good"]


def test_an_issuer_with_two_keys_needs_the_name_of_one() -> None:
    """Only where there is one, it is meant."""
    keys = read_keys(key_set(*(jwk(RSA, SignedBy.RS256, kid=each) for each in ("a", "b"))), SignedBy.RS256)
    issuer = Issuer("rs", SHOP, SignedBy.RS256, keys)
    assert len(issuer.keys_named("a")) == 1
    assert [*issuer.keys_named(""), *issuer.keys_named("c")] == []


@pytest.mark.parametrize("named", [{"kid": "a"}, {}])
def test_keys_that_share_an_id_are_all_tried(named: dict[str, str]) -> None:
    """An issuer may change its key under one id, or without any, with both in its set meanwhile."""
    rotated = [jwk(each, SignedBy.ES256, **named) for each in (EC, OTHER_EC)]
    for keys in (rotated, rotated[::-1]):
        issuer = Issuer("es", SHOP, SignedBy.ES256, read_keys(key_set(*keys), SignedBy.ES256))
        auth = TokenAuth({SHOP.id: TokenRules(3600)}, RING, [issuer])
        for key in (EC, OTHER_EC):
            assert auth.client(signed({"iss": "es"}, key, "ES256", **named), NOW_S).app == SHOP
        with pytest.raises(BadToken):
            auth.client(
                signed({"iss": "es"}, ec.generate_private_key(ec.SECP256R1()), "ES256", **named), NOW_S
            )


def private(key: Any) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": 5}',
        b"[" * 100_000,
        key_set(),
        key_set(*[jwk(RSA, SignedBy.RS256)] * (MAX_KEYS + 1)),
        key_set(jwk(EC, SignedBy.ES256)),
        b"-----BEGIN PUBLIC KEY-----\n",
        pem(EC),
        pem(RSA) + pem(RSA),
        private(RSA),
        b"\xff\xfe",
    ],
)
def test_other_texts_are_no_keys(text: bytes) -> None:
    """A private key too: it does not belong on the server."""
    with pytest.raises(ValueError, match="it "):
        read_keys(text, SignedBy.RS256)


def secrets_of(make: Callable[[], object]) -> str:
    try:
        return repr(make())
    except BadToken as error:
        return f"{error!r} {error} {error.body} {error.__cause__!r}"


@pytest.mark.parametrize("name", ["secret of another application", "HS512", "weak secret", "expired key"])
def test_no_error_has_a_token_or_a_secret(name: str) -> None:
    """Errors are logged and answered."""
    text = secrets_of(lambda: checked(ATTACKS[name]))
    assert ATTACKS[name].split(".")[2] not in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("token", "app", "note"),
    [
        (signed({"iss": "es/"}, EC, "ES256", kid="e1"), None, "the issuer 'es/' is none of token_issuers"),
        (signed({"iss": "x\n\u202e"}, "w" * 32), None, r"the issuer 'x\n\u202e' is none of token_issuers"),
        (signed({"iss": "y" * 999}, "w" * 32), None, f"the issuer '{'y' * 200}'.. is none of token_issuers"),
        (signed({}, "w" * 32), None, ""),
        (signed({"iss": "es"}, EC, "ES256", kid="e2"), None, "the issuer 'es' has no key 'e2'"),
        (signed({"iss": "es"}, EC, "ES256"), BLOG, "the issuer 'es' is that of another application"),
        (signed({"iss": "es"}, OTHER_EC, "ES256"), None, "no key of the issuer 'es' has signed it"),
        (signed({"iss": "gone", "exp": NOW_S}, kid="main"), None, ""),
    ],
)
def test_the_log_says_whose_a_refused_token_would_be(token: str, app: App | None, note: str) -> None:
    """Quoted and short; its client is answered as for any other fault."""
    with pytest.raises(BadToken) as refused:
        checked(token, app=app)
    assert refused.value.note == note
    assert not note or "issuer" not in str(refused.value.body)
