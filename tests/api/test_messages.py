"""Messages are sent over HTTP, and received by long polls."""

from typing import Any

import pytest
from tests.api.messages import Receive, history, keep, send
from tests.conftest import CLUSTER
from tests.http_client import http

pytestmark = pytest.mark.nodes(1, CLUSTER)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_one_message_is_answered_with_one(server: Any) -> None:
    """Completed by the server; keys it does not know are dropped."""
    answer = send(server, "msg-one", unknown=1)
    assert answer | {"uuid": "", "timestamp": ""} == {
        "uuid": "",
        "timestamp": "",
        "user": "poster",
        "channel": "msg-one",
        "pm_users": [],
        "exclude_users": [],
        "no_history": False,
        "message": {"n": 1},
        "edited": None,
    }
    assert len(answer["uuid"]) == 36
    assert len(answer["timestamp"]) == len("2011-09-15T11:36:18.471862")


def test_a_message_has_the_trace_context_of_its_call_where_asked(server: Any, receive: Receive) -> None:
    """Live and in the history, also after an edit, which has none; a malformed context is handed to no one."""
    keep(server, "msg-trace")
    conn_id = server.connect("msg-trace", "msg-trace")
    body = {"user": "poster", "channel": "msg-trace", "message": 1, "include_traceparent": True}
    headers = {"traceparent": TRACEPARENT}
    sent = server.post("/message", body, headers=headers)
    server.post("/message", body | {"include_traceparent": False}, headers=headers)
    server.post("/message", body, headers={"traceparent": TRACEPARENT.upper()})
    server.post("/message", body)
    server.request("PATCH", "/message", {"uuid": sent["uuid"], "channel": "msg-trace", "message": 2})
    items = receive("msg-trace", conn_id)
    assert [item.get("traceparent") for item in history(server, "msg-trace")] == [
        TRACEPARENT,
        None,
        None,
        None,
    ]
    assert "traceparent" not in sent
    assert items[0]["traceparent"] == TRACEPARENT
    assert [item for item in items[1:] if "traceparent" in item] == []


@pytest.mark.nodes(1, 3)  # In a cluster channels of different shards have no order among them.
def test_a_list_is_answered_with_a_list(server: Any, receive: Receive) -> None:
    """In the order of the list, which is the order of delivery too."""
    conn_id = server.connect("msg-list", "msg-list-a", "msg-list-b")
    items = [
        {"user": "poster", "channel": f"msg-list-{name}", "message": {"n": n}}
        for n, name in enumerate("abba")
    ]
    answer = server.post("/message", items)
    assert [item["message"]["n"] for item in answer] == [0, 1, 2, 3]
    assert [item["message"]["n"] for item in receive("msg-list", conn_id)] == [0, 1, 2, 3]
    assert server.post("/message", []) == []


def test_a_received_message_equals_the_sent_one(server: Any, receive: Receive) -> None:
    """With the keys of 0.7.1, and the position beside them."""
    conn_id = server.connect("msg-keys", "msg-keys")
    sent = send(server, "msg-keys")
    (received,) = receive("msg-keys", conn_id)
    assert set(received) == {
        *("uuid", "channel", "timestamp", "user", "message", "edited", "catchup", "type"),
        "position",
    }
    same = ("uuid", "channel", "timestamp", "user", "message", "edited")
    assert [received[key] for key in same] == [sent[key] for key in same]


@pytest.mark.parametrize("payload", [0, "text", [1, [2]], {"a": {"b": None}}, True, 1.5, "ł😀"])
def test_a_payload_may_be_any_json(server: Any, receive: Receive, payload: Any) -> None:
    """And arrives unchanged."""
    conn_id = server.connect("msg-json", "msg-json")
    assert send(server, "msg-json", message=payload)["message"] == payload
    assert receive("msg-json", conn_id)[-1]["message"] == payload


def test_times_are_utc_with_six_digits(server: Any) -> None:
    """For every zone and number of digits."""
    times = {
        "2011-09-15T11:36:18": "2011-09-15T11:36:18.000000",
        "2011-09-15T11:36:18.123Z": "2011-09-15T11:36:18.123000",
        "2011-09-15T11:36:18+02:00": "2011-09-15T09:36:18.000000",
    }
    for given, answered in times.items():
        assert send(server, "msg-times", timestamp=given)["timestamp"] == answered


def test_one_bad_item_refuses_all(server: Any, receive: Receive) -> None:
    """The answer names the item and its faults, and nothing is delivered."""
    conn_id = server.connect("msg-batch", "msg-batch")
    good = {"user": "poster", "channel": "msg-batch", "message": {}}
    bad = {"channel": "x" * 257, "timestamp": "today", "uuid": "1"}
    answer = server.request("POST", "/message", [good, bad, good])
    assert answer.status_code == 422
    assert list(answer.json()["faults"]) == ["1"]
    assert set(answer.json()["1"]) == {"user", "channel", "timestamp", "uuid"}
    assert receive("msg-batch", conn_id) == []


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"1", b'"x"', b"null"])
def test_a_body_that_is_neither_object_nor_list_is_refused(server: Any, method: str, body: bytes) -> None:
    """With 422 and a fault of the whole body."""
    answer = http.request(method, server.url + "/message", content=body, headers=server.sign("/message"))
    assert (answer.status_code, list(answer.json()["faults"])) == (422, ["_schema"])


def test_only_the_seed_gets_a_null_message(server: Any, receive: Receive) -> None:
    """Pages of 0.7 read `message.x` of every frame."""
    new = server.connect("msg-null-new", "msg-null")
    old = server.post("/connect", {"user": "msg-null-old", "channels": ["msg-null"]})["conn_id"]
    server.post("/message", {"user": "poster", "channel": "msg-null", "message": None})
    assert [item["message"] for item in receive("msg-null-new", new)] == [{}]
    assert [item["message"] for item in receive("msg-null-old", old)] == [None]


def test_many_messages_of_one_list_arrive_in_order(server: Any) -> None:
    """Arrive whole and in order, and the answer names each of them."""
    items = [{"user": "poster", "channel": "msg-many", "message": n} for n in range(1_500)]
    items[700] |= {"channel": None}
    answer = server.post("/message", items)
    assert [item["message"] for item in answer] == [n for n in range(1_500) if n != 700]
    server.post("/channel_config", {"msg-many": {"store_history": True, "history_size": 1000}})
    server.post("/message", items)
    reply = server.post("/info", {"info": {"channels": ["msg-many"]}})["channels"]["msg-many"]
    assert [item["message"] for item in reply["history"]] == list(range(499, 700)) + list(range(701, 1_500))


def test_history_keeps_the_last_messages(server: Any) -> None:
    """As many as the channel says, oldest first; none where no_history asks for it or nothing is stored."""
    keep(server, "msg-history", history_size=2)
    for number in range(4):
        send(server, "msg-history", message={"n": number})
    send(server, "msg-history", no_history=True)
    send(server, "msg-unkept")
    assert [item["message"]["n"] for item in history(server, "msg-history")] == [2, 3]
    keep(server, "msg-history", history_size=0)
    assert history(server, "msg-history") == []
