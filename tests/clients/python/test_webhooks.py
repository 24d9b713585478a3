"""What the Python client takes for a webhook of its server. Signatures are made by Standard Webhooks' own library."""

import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook as Library

from channelstream_client import BadWebhook, verify_pusher_webhook, verify_webhook

SECRET = "whsec_" + b64encode(b"a secret of thirty-two bytes...!").decode()
OLDER = "whsec_" + b64encode(b"the one that was there before...").decode()
NOW_S = 1_800_000_000.0
EVENTS = [{"id": "1", "type": "channel.occupied", "channel": "news"}]
BODY = json.dumps({"type": "channelstream.events", "data": {"events": EVENTS}}).encode()
PUSHER_BODY = json.dumps({"time_ms": 1_800_000_000_250, "events": [{"name": "cache_miss"}]}).encode()


def signed(body: bytes = BODY, secret: str = SECRET, sent_s: float = NOW_S, **changed: str) -> dict[str, str]:
    signature = Library(secret).sign("msg_1", datetime.fromtimestamp(sent_s, UTC), body.decode("latin-1"))
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(sent_s)), "Webhook-Signature": signature}
    return headers | changed


def pusher_signed(body: bytes = PUSHER_BODY, **changed: str) -> dict[str, str]:
    mac = hmac.digest(b"kit-secret", body, "sha256").hex()
    return {"X-Pusher-Key": "kit-key", "X-Pusher-Signature": mac} | changed


def test_what_a_webhook_reports() -> None:
    found = verify_webhook(signed(), BODY, SECRET, now_s=NOW_S + 1)
    assert (found.id, found.sent_s, list(found.events)) == ("msg_1", NOW_S, EVENTS)


def test_any_of_several_secrets_verifies() -> None:
    """While a secret is changed, either of both counts, on either side."""
    verify_webhook(signed(secret=OLDER), BODY, [SECRET, OLDER], now_s=NOW_S)
    both = " ".join(signed(secret=each)["Webhook-Signature"] for each in (OLDER, SECRET))
    verify_webhook(signed(**{"Webhook-Signature": f"v1a,{both[3:20]} {both}"}), BODY, SECRET, now_s=NOW_S)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(secret=OLDER),
        signed(body=BODY + b" "),
        signed(sent_s=NOW_S - 301),
        signed(sent_s=NOW_S + 301),
        signed(**{"Webhook-Id": "msg_2"}),
        signed(**{"Webhook-Timestamp": str(int(NOW_S) + 1)}),
        signed(**{"Webhook-Timestamp": "²"}),
        signed(**{"Webhook-Timestamp": "9" * 400}),
        signed(**{"Webhook-Signature": ""}),
        signed(**{"Webhook-Signature": "v1,ä v1,= v1 ,"}),
        signed(**{"Webhook-Signature": "v2," + signed()["Webhook-Signature"].partition(",")[2]}),
        pusher_signed(body=BODY),
    ],
    ids=str,
)
def test_what_is_no_webhook_of_this_server(headers: dict[str, str]) -> None:
    with pytest.raises(BadWebhook):
        verify_webhook(headers, BODY, SECRET, now_s=NOW_S)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"data":[]}', b'{"data":{"events":[1]}}', b"[" * 90_000]
)
def test_a_body_of_another_form(body: bytes) -> None:
    signature = b64encode(hmac.digest(b"a secret of thirty-two bytes...!", b"m.1800000000." + body, "sha256"))
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": "1800000000",
        "webhook-signature": f"v1,{signature.decode()}",
    }
    with pytest.raises(BadWebhook, match="the body"):
        verify_webhook(headers, body, SECRET, now_s=NOW_S)


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_ä", "d2hzZWM="])
def test_a_faulty_secret_is_an_error_of_its_own(secret: str) -> None:
    """It is the application's fault, and the error does not show it."""
    with pytest.raises(ValueError, match=r"^a secret of webhooks is whsec_ and base64$"):
        verify_webhook(signed(), BODY, secret, now_s=NOW_S)


def test_an_empty_secret_of_pushers_format() -> None:
    """What anybody could sign is not verified."""
    with pytest.raises(ValueError, match=r"^without a secret"):
        verify_pusher_webhook(pusher_signed(), PUSHER_BODY, "kit-key", "")


def test_pushers_format() -> None:
    found = verify_pusher_webhook(pusher_signed(), PUSHER_BODY, "kit-key", "kit-secret")
    assert (found.id, found.sent_s, list(found.events)) == ("", 1_800_000_000.25, [{"name": "cache_miss"}])


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, PUSHER_BODY),
        (pusher_signed(body=b"{}"), PUSHER_BODY),
        (pusher_signed(**{"X-Pusher-Key": "another"}), PUSHER_BODY),
        (pusher_signed(**{"X-Pusher-Signature": "ä"}), PUSHER_BODY),
        (signed(), PUSHER_BODY),
        (pusher_signed(body=b'{"time_ms":"1","events":[]}'), b'{"time_ms":"1","events":[]}'),
        (pusher_signed(body=b'{"time_ms":1}'), b'{"time_ms":1}'),
    ],
    ids=str,
)
def test_what_is_no_webhook_in_pushers_format(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadWebhook):
        verify_pusher_webhook(headers, body, "kit-key", "kit-secret")


def test_the_time_is_now() -> None:
    """Without a time of the caller, that of the machine counts."""
    now: Any = datetime.now(UTC).timestamp()
    verify_webhook(signed(sent_s=now), BODY, SECRET)
    with pytest.raises(BadWebhook, match="too long ago"):
        verify_webhook(signed(sent_s=NOW_S - 1e9), BODY, SECRET)
