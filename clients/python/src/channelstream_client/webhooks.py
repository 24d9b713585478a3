"""Verifies the webhooks that a server of channelstream sends. No I/O: a handler of any framework passes headers and body.

The format of Standard Webhooks has a time and an id in its signature (specification 1.0.0 of standardwebhooks.com);
Pusher's signs only the body. Each format has a function of its own: if the caller of a webhook could choose the format, a
secret would be as strong as the weaker one.

The server signs with the package standardwebhooks. Its `verify` is not used here: it takes one secret, and on headers of
strangers that are not well formed it raises other errors than its own.
"""

import hmac
import json
import time
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from channelstream_client.errors import BadWebhook

TOLERANCE_S = 300.0
"""How far the time of a webhook may be from now."""
_PREFIX = "whsec_"
_ID, _TIMESTAMP, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PUSHER_KEY, _PUSHER_SIGNATURE = "x-pusher-key", "x-pusher-signature"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A call that a server has sent.

    Attributes:
        id: the same whenever this call is repeated; empty in Pusher's format, which has none.
        sent_s: when it was sent, in epoch seconds; in Pusher's format when its last event happened.
        events: what is reported, in order, as docs/webhooks.md describes.
    """

    id: str
    sent_s: float
    events: tuple[Mapping[str, Any], ...]


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    secrets: str | Iterable[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> Webhook:
    """Return what a webhook in the format of Standard Webhooks reports, if its signature is right.

    Args:
        headers: of the request; upper and lower case count as the same.
        body: exactly the bytes of the request.
        secrets: one, or several while they are changed, as in the server's option `webhook_secret`.
        tolerance_s: how far its time may be from now.
        now_s: the time in epoch seconds; None means now.

    Raises:
        BadWebhook: it is not from a server with this secret, is too old, or is no webhook.
        ValueError: a secret is faulty.
    """
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    found = _lower(headers)
    call_id, sent = found.get(_ID, ""), found.get(_TIMESTAMP, "")
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 15):
        raise BadWebhook(f"the header {_TIMESTAMP} is no time")
    signed = b"%b.%b.%b" % (call_id.encode(errors="replace"), sent.encode(), body)
    macs = [hmac.digest(key, signed, "sha256") for key in keys]
    shown = [_decoded(each) for each in found.get(_SIGNATURE, "").split()]
    # All pairs are compared, so that the time does not tell which secret is in use.
    if sum(hmac.compare_digest(mac, each) for mac in macs for each in shown) == 0:
        raise BadWebhook("the signature is not that of a server with this secret")
    if abs((time.time() if now_s is None else now_s) - int(sent)) > tolerance_s:
        raise BadWebhook("it was sent too long ago, or the two clocks differ")
    document = _document(body)
    data = document.get("data")
    return Webhook(call_id, float(sent), _events(data if isinstance(data, dict) else {}))


def verify_pusher_webhook(headers: Mapping[str, str], body: bytes, key: str, secret: str) -> Webhook:
    """Return what a webhook in Pusher's format reports, if its signature is right.

    Nothing in it tells how old it is: who needs that compares `sent_s` with the time.

    Args:
        headers: of the request; upper and lower case count as the same.
        body: exactly the bytes of the request.
        key: the server's option `pusher_key`.
        secret: the server's option `pusher_secret`.

    Raises:
        BadWebhook: it is not from a server with this key and secret, or is no webhook.
        ValueError: the secret is empty.
    """
    if not secret:
        raise ValueError("without a secret anybody could sign")
    found = _lower(headers)
    mac = hmac.digest(secret.encode(), body, "sha256").hex()
    is_signed = hmac.compare_digest(mac.encode(), found.get(_PUSHER_SIGNATURE, "").encode(errors="replace"))
    if not (is_signed and found.get(_PUSHER_KEY) == key):
        raise BadWebhook("the signature is not that of a server with this key and secret")
    document = _document(body)
    time_ms = document.get("time_ms")
    if not isinstance(time_ms, int):
        raise BadWebhook("the body has no time_ms")
    return Webhook("", time_ms / 1000, _events(document))


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not (secret.startswith(_PREFIX) and key):
        # Without the secret, which logs may show.
        raise ValueError(f"a secret of webhooks is {_PREFIX} and base64")
    return key


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _decoded(shown: str) -> bytes:
    """Return the bytes of one signature of the header; of a version that is not known, none."""
    version, _, text = shown.partition(",")
    try:
        return b64decode(text, validate=True) if version == "v1" else b""
    except ValueError:
        return b""


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadWebhook("the body is not JSON") from error
    if not isinstance(document, dict):
        raise BadWebhook("the body is no object")
    return document


def _events(holder: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    events = holder.get("events")
    if not (isinstance(events, list) and all(isinstance(each, dict) for each in events)):
        raise BadWebhook("the body has no list of events")
    return tuple(events)
