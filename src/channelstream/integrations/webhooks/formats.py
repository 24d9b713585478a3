"""The two formats of webhooks: that of Standard Webhooks (standardwebhooks.com, specification 1.0.0), and Pusher's.

A body is made once, and is the same whenever it is sent again. Its id follows from those of its facts.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
from standardwebhooks import Webhook

from channelstream.apps.keys import name_of
from channelstream.apps.pusher_app import PusherApp
from channelstream.apps.webhooks import PUSHER_TYPES, TYPES, Receiver
from channelstream.core import facts, pusher_names
from channelstream.core.facts import Fact, kind_of
from channelstream.core.timestamps import stamp

SCHEMA = "channelstream.events"
"""The `type` of a body of Standard Webhooks."""
_NAMES = ("channel", "user")
"""Fields of facts that have keys."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent in one call.

    Attributes:
        id: the same for the same facts.
    """

    id: str
    body: bytes
    facts: tuple[Fact, ...]


def accepts(receiver: Receiver, fact: Fact) -> bool:
    """Whether a receiver is sent a fact of its application."""
    if kind_of(fact) not in receiver.kinds:
        return False
    return receiver.pusher is None or name_of(fact.place).startswith(receiver.pusher.channel_prefix)


def call_of(receiver: Receiver, found: Sequence[Fact]) -> Call:
    """Return the call that reports these facts."""
    digest = sha256("\n".join(fact.id for fact in found).encode()).hexdigest()
    if receiver.pusher is not None:
        events = [_pusher_event(receiver.pusher, fact) for fact in found]
        body = _encode({"time_ms": found[-1].at_ms, "events": events})
    else:
        data = {"events": [_event(fact) for fact in found]}
        body = _encode({"type": SCHEMA, "timestamp": _time(found[-1]), "data": data})
    return Call(f"msg_{digest[:32]}", body, tuple(found))


def headers_of(receiver: Receiver, call: Call, now_s: float) -> dict[str, str]:
    """Return the headers of a call.

    Args:
        now_s: when this attempt is made, in epoch seconds.
    """
    # Exactly this type: Pusher's SDK for Node refuses one with a charset.
    headers = {"content-type": "application/json", "user-agent": "channelstream"}
    if receiver.pusher is not None:
        mac = hmac.digest(receiver.pusher.secrets.newest.encode(), call.body, "sha256").hex()
        # With these capitals: Pusher's SDK for PHP looks for them, and PHP hands some programs the names as they were sent.
        return headers | {"X-Pusher-Key": receiver.pusher.key, "X-Pusher-Signature": mac}
    at_s, text = int(now_s), call.body.decode()
    at = datetime.fromtimestamp(at_s, UTC)
    signatures = (Webhook(secret).sign(call.id, at, text) for secret in receiver.secrets)
    return headers | {
        "webhook-id": call.id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(signatures),
    }


def _time(fact: Fact) -> str:
    return f"{stamp(fact.at_ms / 1000)}Z"


def _event(fact: Fact) -> dict[str, Any]:
    fields = {name: getattr(fact, name) for name in fact.__struct_fields__[2:]}
    shown = {name: name_of(value) if name in _NAMES and value else value for name, value in fields.items()}
    known = {name: value for name, value in shown.items() if value is not None}
    return {"id": fact.id, "type": TYPES[kind_of(fact)], "timestamp": _time(fact), **known}


def _pusher_event(pusher: PusherApp, fact: Fact) -> dict[str, Any]:
    channel = pusher.pusher_name(name_of(fact.place))
    event: dict[str, Any] = {"name": PUSHER_TYPES[kind_of(fact)], "channel": channel}
    if isinstance(fact, facts.MemberAdded | facts.MemberRemoved):
        event["user_id"] = name_of(fact.user)
    if isinstance(fact, facts.ClientEvent):
        event |= {"event": fact.event, "data": fact.data, "socket_id": fact.socket}
        if fact.user is not None and pusher_names.has_members(channel):
            event["user_id"] = name_of(fact.user)
    return event
