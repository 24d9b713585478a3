"""Tokens with which a client acts for itself: JSON Web Tokens (RFC 7519), signed by the application or by an issuer.

Who has signed a token follows from its claim `iss`: if an issuer of that name is configured, only its public keys and its
algorithm are accepted; without one, only keys of applications, with HS256, where the header `kid` is the id of the key.
So what a token says about itself never decides how it is checked: no algorithm and no key of one signer is tried for
another's token. Headers that name keys or addresses (`jwk`, `jku`, `x5u`) are not read.

Imports `jwt`, and with it `cryptography` where that is installed, which takes long: only what accepts tokens imports this
module.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Final

import msgspec
from jwt.api_jws import PyJWS
from jwt.exceptions import InvalidSignatureError, PyJWTError
from msgspec import Meta, Struct

from channelstream.apps.api_key import MIN_SECRET_BYTES, ApiKey, fingerprint
from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.apps.key_ring import KeyRing
from channelstream.apps.principal import ALL_RIGHTS, Right
from channelstream.auth.issuer import Issuer, UnknownKey, quoted
from channelstream.core.user import MAX_STATE_KEYS
from channelstream.errors import BadSignature, BadToken, OverreachingToken

MAX_BYTES: Final = 8192
"""Longest token."""
HS256: Final = "HS256"

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_State = dict[_Name, str | int | float | bool | None]


class _Claims(Struct):
    """The claims that mean something here; others are ignored (RFC 7519, 4)."""

    sub: Annotated[str, Meta(min_length=1, max_length=512)]
    exp: float
    channels: list[_Name] = []
    subscribe: list[str] = []
    publish: list[str] = []
    history: list[str] = []
    presence: list[str] = []
    state: Annotated[_State, Meta(max_length=MAX_STATE_KEYS)] = {}
    public: Annotated[list[_Name], Meta(max_length=MAX_STATE_KEYS)] | None = None
    jti: Annotated[str, Meta(max_length=256)] = ""
    iat: float | None = None
    nbf: float | None = None
    aud: str | list[str] | None = None


class _Issued(Struct):
    """The issuer that a token names."""

    iss: str = ""


_claims = msgspec.json.Decoder(_Claims).decode
_issued = msgspec.json.Decoder(_Issued).decode


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The options of tokens.

    Attributes:
        max_age_s: how far ahead `exp` may be.
        max_ahead_s: how far the clock of the signer may be ahead of the server's.
        audience: what `aud` must name; empty accepts only tokens without that claim (RFC 7519, 4.1.3).
    """

    max_age_s: float
    max_ahead_s: float = 60.0
    audience: str = ""


class TokenAuth:
    """Finds out for whom a token speaks."""

    def __init__(
        self, rules: Mapping[str, TokenRules], ring: KeyRing, issuers: Iterable[Issuer] = ()
    ) -> None:
        """Create the check of tokens.

        Args:
            rules: what they must satisfy, by the id of their application; one that is not named accepts none.
            ring: the keys of applications.
            issuers: others that sign tokens, each with another name.
        """
        self._rules = rules
        self._ring = ring
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._jws = PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})

    def client(self, token: str, now_s: float, app: App | None = None) -> Client:
        """Return the client for which a token speaks.

        Args:
            token: from a client.
            now_s: seconds since the epoch.
            app: the application that the request names; None if it names none.

        Raises:
            BadToken: it is not signed by one whose key is accepted, or its claims are not.
            UnknownKey: as well, if the keys of its issuer may have changed.
            OverreachingToken: its key may not grant this.
        """
        if len(token) > MAX_BYTES:
            # Says nothing of keys; and a fresh token of this signer would be as long.
            raise BadToken(f"The token is longer than {MAX_BYTES:,} bytes.")
        if not token.isascii():
            raise BadToken
        try:
            parsed = self._jws.decode_complete(token, options={"verify_signature": False})
            named = _issued(parsed["payload"]).iss
            issuer = self._issuers.get(named)
            key_id = parsed["header"].get("kid", "")
            if issuer is None:
                return self._from_application(token, key_id, named, now_s, app)
            return self._from_issuer(token, key_id, issuer, now_s, app)
        except (PyJWTError, msgspec.MsgspecError, RecursionError, BadSignature) as error:
            raise BadToken from error

    def accepts(self, client: Client, now_s: float) -> bool:
        """Whether the key that has signed the token of a client is accepted now (`KeyRing.accepts`)."""
        return self._ring.accepts(client, now_s)

    def _from_application(
        self, token: str, key_id: str, issuer: str, now_s: float, app: App | None
    ) -> Client:
        try:
            key = self._ring.find(key_id, now_s, app)
            payload, secret = self._signed_by(token, key)
        except (BadSignature, BadToken, PyJWTError) as error:
            raise BadToken(note=_no_issuer(issuer)) from error
        client = self._client(payload, key.app, key.rights, now_s)
        return replace(client, key_id=key.id, signed_with=fingerprint(secret))

    def _signed_by(self, token: str, key: ApiKey) -> tuple[bytes, str]:
        """Return the payload of a token, and the secret of this key that has signed it.

        Raises:
            BadToken: none has.
        """
        for secret in key.secrets:
            # The holder of one token could find a short secret by trying: the option `secret` may be any text.
            if len(secret.encode()) >= MIN_SECRET_BYTES:
                with suppress(InvalidSignatureError):
                    return self._jws.decode(token, secret.encode(), [HS256]), secret
        raise BadToken

    def _from_issuer(self, token: str, key_id: str, issuer: Issuer, now_s: float, app: App | None) -> Client:
        if app is not None and app.id != issuer.app.id:
            raise BadToken(note=f"the issuer {issuer.name!r} is that of another application")
        named = issuer.keys_named(key_id)
        if not named:
            raise UnknownKey(issuer.name, key_id)
        for public in named:
            with suppress(InvalidSignatureError):
                payload = self._jws.decode(token, public, [issuer.algorithm])
                return self._client(payload, issuer.app, ALL_RIGHTS, now_s)
        raise BadToken(note=f"no key of the issuer {issuer.name!r} has signed it")

    def _client(self, payload: bytes, app: App, rights: frozenset[Right], now_s: float) -> Client:
        """Return the client of claims whose signature is verified; their faults may be named from here on."""
        rules = self._rules.get(app.id)
        if rules is None:
            raise BadToken("The application accepts no tokens; see the option token_max_age_s.")
        try:
            claims = _claims(payload)
            patterns = [
                Patterns(tuple(texts))
                for texts in (claims.subscribe, claims.publish, claims.history, claims.presence)
            ]
        except (msgspec.ValidationError, ValueError) as error:
            raise BadToken(f"The claims of the token are faulty: {error}.") from error
        _check_times(claims, rules, now_s)
        _check_audience(claims, rules.audience)
        client = Client(
            app,
            claims.sub,
            claims.exp,
            Grants(*patterns),
            tuple(dict.fromkeys(claims.channels)),
            claims.state,
            None if claims.public is None else tuple(claims.public),
            claims.jti,
            claims.iat,
        )
        _check_rights(client, rights)
        return client


def _no_issuer(name: str) -> str:
    """Return what the log says of a token whose issuer is not configured, and that no application has signed."""
    return f"the issuer {quoted(name)} is none of token_issuers" if name else ""


def _check_times(claims: _Claims, rules: TokenRules, now_s: float) -> None:
    ahead_s = now_s + rules.max_ahead_s
    if claims.exp <= now_s:
        raise BadToken("The token has expired: get a fresh one.")
    if claims.exp > ahead_s + rules.max_age_s:
        raise BadToken(f"The token is valid for longer than {rules.max_age_s:g} seconds.")
    if max(claims.iat or 0, claims.nbf or 0) > ahead_s:
        raise BadToken("The token is not valid yet: check the clock of its signer.")


def _check_audience(claims: _Claims, audience: str) -> None:
    named = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if (named is not None or audience) and audience not in (named or ()):
        raise BadToken("The token is for another audience; see the option token_audience.")


def _check_rights(client: Client, rights: frozenset[Right]) -> None:
    if Right.CONNECT not in rights:
        raise OverreachingToken("The key of the token may not open connections.")
    for claim, right in client.beyond(rights):
        raise OverreachingToken(f"The key of the token may not grant {claim}: it lacks the right '{right}'.")
