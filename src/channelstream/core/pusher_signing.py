"""Signatures of Pusher's protocol: HMAC-SHA256 (RFC 2104) over a text, in hexadecimal digits.

Clients show one that the server of their application has made, for a channel or a user, as `KEY:SIGNATURE`. Calls of the
REST API have one over method, path and query, which has the MD5 of the body.
"""

import hmac
import re
from collections.abc import Iterable
from hashlib import md5

_SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
"""Server SDKs check for decimal digits on both sides of a dot; the bound is ours, twice as long as those that are drawn."""


def is_socket_id(text: str) -> bool:
    """Whether a text has the form of a socket id."""
    return _SOCKET_ID.fullmatch(text) is not None


def channel_text(socket_id: str, channel: str, channel_data: str | None) -> str:
    """Return the text that is signed to let a client subscribe to a channel.

    Args:
        channel_data: who subscribes, exactly as it was sent; None or empty for nothing.
    """
    return f"{socket_id}:{channel}:{channel_data}" if channel_data else f"{socket_id}:{channel}"


def user_text(socket_id: str, user_data: str) -> str:
    """Return the text that is signed to let a client sign in.

    Args:
        user_data: who signs in, exactly as it was sent.
    """
    return f"{socket_id}::user::{user_data}"


def request_text(method: str, path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return the text that is signed to call the REST API.

    Args:
        path: as the caller has it.
        parameters: those of the query besides `auth_signature`, whose values are signed as they are given here.
    """
    query = "&".join(f"{name}={value}" for name, value in sorted(_lower(parameters)))
    return f"{method}\n{path}\n{query}"


def _lower(parameters: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return ((name.lower(), value) for name, value in parameters)


def body_md5(body: bytes) -> str:
    """Return the hash of a body as `body_md5` has it; the signature over it is what protects the body."""
    return md5(body, usedforsecurity=False).hexdigest()


def signature(secret: str, text: str) -> str:
    """Return the signature of a text."""
    return _mac(secret, text).hex()


def is_genuine(secret: str, text: str, mac: str) -> bool:
    """Whether this secret signed a text; compares in a time that does not depend on it.

    Args:
        mac: from a caller.
    """
    return hmac.compare_digest(signature(secret, text).encode(), _encoded(mac))


def is_granted(key: str, secrets: Iterable[str], text: str, auth: str) -> bool:
    """Whether a client's `KEY:SIGNATURE` is of this key and one of its secrets, and signs a text; see `is_genuine`.

    Args:
        auth: from a client.
    """
    given = _encoded(auth)
    return any(hmac.compare_digest(f"{key}:{signature(secret, text)}".encode(), given) for secret in secrets)


def conn_id_of(secret: str, socket_id: str) -> str:
    """Return the connection id of a socket id: each node finds it, and nobody without the secret.

    It is a UUID of version 8, whose bits are free (RFC 9562, 5.8).
    """
    bits = int.from_bytes(_mac(secret, f"channelstream connection {socket_id}")[:16])
    bits = bits & ~(0xF << 76) | 8 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _mac(secret: str, text: str) -> bytes:
    return hmac.digest(_encoded(secret), _encoded(text), "sha256")


def _encoded(text: str) -> bytes:
    """Return UTF-8; JSON of strangers may have halves of pairs, which have no form in it."""
    return text.encode(errors="surrogatepass")
