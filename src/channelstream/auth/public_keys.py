"""The public keys of issuers, as they publish them. Needs the extra `tokens`, of which only issuers have use."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from channelstream.auth.issuer import PublicKey, PublicKeys, SignedBy

KEYS_BYTES: Final = 262_144
"""Longest text with the keys of an issuer."""
MAX_KEYS: Final = 100
"""Most keys of one issuer."""

_PEM: Final = b"-----BEGIN"


def read_keys(text: bytes, algorithm: SignedBy) -> PublicKeys:
    """Return the public key in a PEM text, or those in a set of keys (RFC 7517, 5).

    Keys of a set that are for something else are left out.

    Raises:
        ValueError: there is none of this algorithm, or there are several in PEM.
    """
    if text.lstrip().startswith(_PEM):
        if text.count(_PEM) > 1:
            raise ValueError(
                "it has several PEM texts, of which only one would count: make it a set of keys in JSON"
            )
        key = _public(partial(get_default_algorithms()[algorithm].prepare_key, text), algorithm)
        if key is None:
            raise ValueError(f"it is not a public key for {algorithm}")
        return {"": [key]}
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("it is neither PEM nor a set of keys in JSON") from error
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise ValueError(f"it is not a set of at most {MAX_KEYS} keys")
    keys = dict[str, list[PublicKey]]()
    for key_id, key in _usable(found, algorithm):
        keys.setdefault(key_id, []).append(key)
    if not keys:
        raise ValueError(f"it has no key for {algorithm}")
    return keys


def _usable(found: Iterable[Any], algorithm: SignedBy) -> Iterator[tuple[str, PublicKey]]:
    """Yield the keys of a set that are made for signatures of this algorithm (RFC 7517, 4.2 and 4.4)."""
    for each in found:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        key_id = each.get("kid", "")
        if each.get("alg", algorithm) == algorithm and isinstance(key_id, str):
            key = _public(partial(get_default_algorithms()[algorithm].from_jwk, each), algorithm)
            if key is not None:
                yield key_id, key


def _public(read: Callable[[], PublicKey], algorithm: SignedBy) -> PublicKey | None:
    """Return the key that `read` returns; None if it is private, too short, or of another type."""
    try:
        key = read()
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    is_short = get_default_algorithms()[algorithm].check_key_length(key)
    return None if is_short or hasattr(key, "private_bytes") else key
