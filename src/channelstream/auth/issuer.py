"""Issuers of tokens: those that sign with private keys of their own, of which the server has the public ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from channelstream.apps.app import App
from channelstream.errors import BadToken

LONGEST_QUOTED: Final = 200
"""Characters of a text of a token that the log shows."""


class SignedBy(StrEnum):
    """How an issuer signs (RFC 7518, 3.1; RFC 8037, 3.1)."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


PublicKey = Any
"""A public key of `cryptography`, which may be missing."""
PublicKeys = Mapping[str, Sequence[PublicKey]]
"""Keys by their ids; those without an id have the empty one."""


@dataclass(slots=True)
class Issuer:
    """An issuer, and its keys as they are known now.

    Attributes:
        name: the claim `iss` of its tokens.
        app: the application for which it makes tokens.
        algorithm: the only one that is accepted for its keys, whatever a token says.
        keys: replaced as a whole when they are read again.
    """

    name: str
    app: App
    algorithm: SignedBy
    keys: PublicKeys

    def keys_named(self, key_id: str) -> Sequence[PublicKey]:
        """Return the keys of which one may have signed a token that names this id, or none.

        Where all have one id a token may name none, and where all have none it may name any.
        """
        if len(self.keys) == 1:
            (only,) = self.keys
            return self.keys[only] if key_id == only or not (key_id and only) else ()
        return self.keys.get(key_id, ()) if key_id else ()


def quoted(text: str) -> str:
    """Return a text of a token for the log."""
    return f"{text[:LONGEST_QUOTED]!r}{'..' if len(text) > LONGEST_QUOTED else ''}"


class UnknownKey(BadToken):
    """A token names a key that its issuer did not have when its keys were last read.

    Attributes:
        issuer: its name.
    """

    def __init__(self, issuer: str, key_id: str) -> None:
        super().__init__(note=f"the issuer {issuer!r} has no key {quoted(key_id)}")
        self.issuer = issuer
