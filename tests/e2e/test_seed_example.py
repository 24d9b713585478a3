"""The original specification's own example, executed as it is printed, against a real server process.

The program stays text, so that nobody "mends" it: what it takes from around it (`request`, `endpoint`, `url`,
`payload`) is given to it, as the application it was cut from did.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.http_client import http

PROGRAM = """
import requests
from itsdangerous import TimestampSigner
signer = TimestampSigner(request.registry.settings['secret'])
sig_for_server = signer.sign('/connect')
secret_headers = {'x-channelstream-secret': sig_for_server,
                  'x-channelstream-endpoint': endpoint,
                  'Content-Type': 'application/json'}
response = requests.post(url, data=json.dumps(payload),
                         headers=secret_headers).json()
"""
"""Word by word; its `'/connect'` stands for the endpoint that is called."""


@dataclass
class _Registry:
    settings: dict[str, str]


@dataclass
class _Request:
    registry: _Registry


Call = Callable[[str, dict[str, Any]], Any]


@pytest.fixture
def call(server: Any) -> Call:
    """Run the program for an endpoint and a payload; return its `response`."""

    def run(endpoint: str, payload: dict[str, Any]) -> Any:
        request = _Request(_Registry({"secret": server.secret}))
        names = {
            "json": json,
            "request": request,
            "endpoint": endpoint,
            "url": server.url + endpoint,
            "payload": payload,
        }
        exec(PROGRAM.replace("'/connect'", repr(endpoint)), names)
        return names["response"]

    return run


def _connect(call: Call, user: str, *channels: str) -> str:
    conn_id = str(uuid.uuid4())
    answer = call("/connect", {"user": user, "conn_id": conn_id, "channels": list(channels)})
    assert (answer["conn_id"], answer["status"]) == (conn_id, 0)
    return conn_id


def _listen(server: Any, conn_id: str) -> Any:
    return http.get(server.url + "/listen", params={"conn_id": conn_id}).json()


def test_a_message_reaches_the_channel(server: Any, call: Call) -> None:
    """With every key the specification prints for it."""
    listening = _connect(call, "seed-ann", "SEED_CHAN")
    sent = call(
        "/message",
        {"channel": "SEED_CHAN", "user": "seed-poster", "message": "any payload, not only objects"},
    )
    assert sent["channel"] == "SEED_CHAN"
    (received,) = _listen(server, listening)
    assert received["message"] == "any payload, not only objects"
    assert (received["type"], received["user"], received["channel"]) == (
        "message",
        "seed-poster",
        "SEED_CHAN",
    )
    assert len(received["date"]) == len("2011-09-15T11:36:18.471862")


def test_presence_is_announced_without_asking(server: Any, call: Call) -> None:
    """As `join`, with a null for its message."""
    listening = _connect(call, "seed-first", "SEED_PRESENCE")
    _connect(call, "seed-second", "SEED_PRESENCE")
    (received,) = _listen(server, listening)
    presence = {key: received[key] for key in ("type", "user", "channel", "message")}
    assert presence == {"type": "join", "user": "seed-second", "channel": "SEED_PRESENCE", "message": None}
    assert "date" in received


def test_private_messages_reach_their_users_only(server: Any, call: Call) -> None:
    """Within a channel to its subscribers among the users, without one to all their connections."""
    ann = _connect(call, "seed-pm-ann", "SEED_PM")
    _connect(call, "seed-pm-eve", "SEED_PM")
    _listen(server, ann)
    inside = {"channel": "SEED_PM", "pm_users": ["seed-pm-ann"], "user": "poster", "message": 1}
    call("/message", inside)
    call("/message", {"pm_users": ["seed-pm-ann"], "user": "poster", "message": 2})
    received = _listen(server, ann)
    assert [(item["message"], item.get("channel")) for item in received] == [(1, "SEED_PM"), (2, None)]


def test_subscribing_adds_channels(server: Any, call: Call) -> None:
    """The connection receives the new channels from then on."""
    conn_id = _connect(call, "seed-more", "SEED_ONE")
    answer = call("/subscribe", {"channels": ["SEED_TWO"], "conn_id": conn_id})
    assert answer["channels"] == ["SEED_ONE", "SEED_TWO"]
    call("/message", {"channel": "SEED_TWO", "user": "poster", "message": {"text": "hello"}})
    assert [item["message"] for item in _listen(server, conn_id)] == [{"text": "hello"}]


def test_info_describes_channels(call: Call) -> None:
    """The requested ones, and all for an empty list."""
    conn_id = _connect(call, "seed-info", "SEED_INFO", "SEED_OTHER")
    call("/user_status", {"user": "seed-info", "status": 7})
    answer = call("/info", {"channels": ["SEED_INFO"]})
    assert list(answer["channels"]) == ["SEED_INFO"]
    known = {"user": "seed-info", "status": 7, "connections": [conn_id]}
    assert answer["channels"]["SEED_INFO"]["users"] == [known]
    assert answer["unique_users"] == 1
    assert {"SEED_INFO", "SEED_OTHER"} <= set(call("/info", {"channels": []})["channels"])


def test_a_connection_is_ended(server: Any, call: Call) -> None:
    """At once: the next poll is refused and /info no longer has it."""
    conn_id = _connect(call, "seed-leaving", "SEED_LEFT")
    assert call("/disconnect", {"conn_id": conn_id}) is True
    assert http.get(server.url + "/listen", params={"conn_id": conn_id}).status_code == 401
    assert call("/info", {"channels": ["SEED_LEFT"]})["channels"]["SEED_LEFT"]["users"] == []


def test_the_secret_in_the_query(server: Any) -> None:
    """As the headlines of the specification have it: `/connect?secret=YOURSECRET`."""
    payload = {"user": "seed-query", "conn_id": "seed-query-1", "channels": ["SEED_QUERY"]}
    answer = http.post(server.url + "/connect", params={"secret": server.secret}, json=payload)
    assert answer.status_code == 200
    assert answer.json()["conn_id"] == "seed-query-1"
