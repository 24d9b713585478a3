"""The bodies and headers of webhooks in both formats."""

import hmac
import json
import time
from base64 import b64decode, b64encode
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.engines.conformance.lab import ALL_KINDS
from tests.webhook_receiver import KEY, SECRET

from channelstream.apps.keys import make_key, make_member_key
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.apps.webhooks import PUSHER_TYPES, TYPES, Receiver
from channelstream.core.facts import (
    CacheMissed,
    ChannelOccupied,
    ChannelVacated,
    ClientEvent,
    ConnectionOpened,
    Fact,
    MemberAdded,
    MemberRemoved,
    MessageAccepted,
    UserOnline,
    kind_of,
)
from channelstream.integrations.webhooks.formats import Call, accepts, call_of, headers_of

PUSHER = PusherApp("1", "key", PusherSecrets("pusher secret"))
STANDARD = Receiver("default", "https://a.example/x?token=1", ALL_KINDS, (KEY,))
OF_PUSHER = Receiver("default", "https://a.example/x", frozenset(PUSHER_TYPES), pusher=PUSHER)
AT_MS = 1_700_000_000_250


def about(channel: str = "a") -> dict[str, Any]:
    return {"id": "i", "at_ms": AT_MS, "channel": channel}


OCCUPIED = ChannelOccupied(**about())


def events(receiver: Receiver, *facts: Fact) -> list[dict[str, Any]]:
    body = json.loads(call_of(receiver, facts).body)
    found: list[dict[str, Any]] = body["events"] if receiver.pusher else body["data"]["events"]
    return found


def test_a_body_of_standard_webhooks() -> None:
    """Golden: receivers read it."""
    call = call_of(STANDARD, [OCCUPIED, MemberAdded(**about(), user="ann")])
    assert call.body == (
        b'{"type":"channelstream.events","timestamp":"2023-11-14T22:13:20.250000Z","data":{"events":['
        b'{"id":"i","type":"channel.occupied","timestamp":"2023-11-14T22:13:20.250000Z","channel":"a"},'
        b'{"id":"i","type":"member.added","timestamp":"2023-11-14T22:13:20.250000Z","channel":"a","user":"ann"}]}}'
    )


@pytest.mark.parametrize(
    ("fact", "fields"),
    [
        (UserOnline(id="i", at_ms=AT_MS, user=make_key("shop", "ann")), {"user": "ann"}),
        (ConnectionOpened(id="i", at_ms=AT_MS, user="ann", connection="c"), {"user": "ann", "connection": "c"}),
        (MemberAdded(**about(make_key("shop", "a")), user=make_member_key("shop", "a", "b")), {"channel": "a", "user": "b"}),
        (ClientEvent(**about(), event="e", data="d"), {"channel": "a", "event": "e", "data": "d"}),
        (
            ClientEvent(**about(), event="e", data="d", socket="1.2", user="ann"),
            {"channel": "a", "event": "e", "data": "d", "socket": "1.2", "user": "ann"},
        ),
        (MessageAccepted(**about(), uuid="m", user="ann"), {"channel": "a", "uuid": "m", "user": "ann"}),
    ],
)  # fmt: skip
def test_an_event_has_names_and_no_keys(fact: Fact, fields: dict[str, str]) -> None:
    [event] = events(STANDARD, fact)
    common = {"id": "i", "type": TYPES[kind_of(fact)], "timestamp": "2023-11-14T22:13:20.250000Z"}
    assert event == common | fields


def test_every_kind_has_a_type() -> None:
    """But the one that repeats another."""
    assert set(TYPES) == ALL_KINDS - {"repeated"}


@pytest.mark.parametrize(
    ("fact", "event"),
    [
        (ChannelOccupied(**about("pusher/a")), {"name": "channel_occupied", "channel": "a"}),
        (ChannelVacated(**about("pusher/a")), {"name": "channel_vacated", "channel": "a"}),
        (
            MemberAdded(**about("pusher/presence-a"), user=make_member_key("default", "pusher/presence-a", "7")),
            {"name": "member_added", "channel": "presence-a", "user_id": "7"},
        ),
        (
            MemberRemoved(**about("pusher/presence-a"), user="7"),
            {"name": "member_removed", "channel": "presence-a", "user_id": "7"},
        ),
        (
            ClientEvent(**about("pusher/presence-a"), event="client-x", data="{}", socket="1.2", user="7"),
            {
                "name": "client_event", "channel": "presence-a", "event": "client-x", "data": "{}",
                "socket_id": "1.2", "user_id": "7",
            },
        ),
        (
            ClientEvent(**about("pusher/private-a"), event="client-x", data="{}", socket="1.2", user="7"),
            {"name": "client_event", "channel": "private-a", "event": "client-x", "data": "{}", "socket_id": "1.2"},
        ),
        (CacheMissed(**about("pusher/cache-a")), {"name": "cache_miss", "channel": "cache-a"}),
    ],
)  # fmt: skip
def test_an_event_has_the_form_of_pusher(fact: Fact, event: dict[str, str]) -> None:
    """As Pusher's documents have it; the time is beside the events."""
    assert accepts(OF_PUSHER, fact)
    body = json.loads(call_of(OF_PUSHER, [fact]).body)
    assert body == {"time_ms": AT_MS, "events": [event]}


@pytest.mark.parametrize(
    ("receiver", "fact", "is_sent"),
    [
        (STANDARD, OCCUPIED, True),
        (Receiver("default", "https://a.example", frozenset(("added",))), OCCUPIED, False),
        (OF_PUSHER, OCCUPIED, False),
        (OF_PUSHER, UserOnline(id="i", at_ms=1, user="pusher/x"), False),
    ],
)
def test_a_receiver_is_sent_what_it_wants(receiver: Receiver, fact: Fact, is_sent: bool) -> None:
    """In Pusher's format what it has, about channels of Pusher."""
    assert accepts(receiver, fact) is is_sent


def test_a_call_is_the_same_for_the_same_facts() -> None:
    """Which node sends it does not count; other facts have another id."""
    one, other = call_of(STANDARD, [OCCUPIED]), call_of(STANDARD, [OCCUPIED])
    assert one == other
    assert one.id != call_of(STANDARD, [CacheMissed(id="j", at_ms=1, channel="a")]).id


def test_the_library_of_standard_webhooks_verifies_a_call() -> None:
    """With any of several secrets; each attempt has its own time."""
    rotated = Receiver("default", "https://a.example", ALL_KINDS, (b"x" * 32, KEY))
    call = call_of(rotated, [OCCUPIED])
    [at] = {headers_of(rotated, call, 1_700_000_000.9)["webhook-timestamp"]}
    assert at == "1700000000"
    headers = headers_of(rotated, call, time.time())
    Webhook(SECRET).verify(call.body, headers)
    Webhook(b"x" * 32).verify(call.body, headers)


def test_a_signature_of_the_specification() -> None:
    """The example of its reference libraries."""
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    receiver = Receiver("default", "https://a.example", ALL_KINDS, (key,))
    call = Call("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', (OCCUPIED,))
    headers = headers_of(receiver, call, 1_614_265_330.0)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_of_the_bytes_that_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the text is, and whatever zone the machine is in."""
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        call = call_of(STANDARD, [ClientEvent(**about("a ü \u2028"), event="e", data="\U0001f600\n\x00")])
        headers = headers_of(STANDARD, call, 1_700_000_000.9)
    finally:
        monkeypatch.undo()
        time.tzset()
    mac = hmac.digest(KEY, b"%b.1700000000.%b" % (call.id.encode(), call.body), "sha256")
    assert headers["webhook-signature"] == f"v1,{b64encode(mac).decode()}"


def test_a_call_of_pusher_is_signed_with_its_secret() -> None:
    call = call_of(OF_PUSHER, [ChannelOccupied(**about("pusher/a"))])
    headers = headers_of(OF_PUSHER, call, 1.0)
    assert headers["content-type"] == "application/json"
    assert headers["X-Pusher-Key"] == "key"
    assert headers["X-Pusher-Signature"] == hmac.digest(b"pusher secret", call.body, "sha256").hex()
