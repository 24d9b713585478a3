"""What is sent again is delivered once."""

from typing import Any
from uuid import uuid4

import pytest
from tests.api.messages import Receive, history, keep, send
from tests.conftest import CLUSTER

pytestmark = pytest.mark.nodes(1, CLUSTER)


def test_the_same_uuid_is_delivered_once(server: Any, receive: Receive) -> None:
    """The second time the answer is that of the first message, also within one request."""
    conn_id = server.connect("msg-once", "msg-once")
    uuid = str(uuid4())
    first = send(server, "msg-once", uuid=uuid)
    assert send(server, "msg-once", uuid=uuid.upper(), message={"n": 2}) == first
    twice = [{"user": "poster", "channel": "msg-once", "message": {}, "uuid": str(uuid4())}] * 2
    assert len({item["timestamp"] for item in server.post("/message", twice)}) == 1
    assert [item["uuid"] for item in receive("msg-once", conn_id)] == [uuid, twice[0]["uuid"]]


def test_a_uuid_belongs_to_its_channel(server: Any, receive: Receive) -> None:
    """In another channel it is another message."""
    conn_id = server.connect("msg-uuid", "msg-uuid-a", "msg-uuid-b")
    for name in ("msg-uuid-a", "msg-uuid-b"):
        send(server, name, uuid="9c1f3e52-4f0c-4f7c-8f6c-2a1f6f0e3b11")
    assert [item["channel"] for item in receive("msg-uuid", conn_id)] == ["msg-uuid-a", "msg-uuid-b"]


def test_a_deleted_message_is_not_sent_again(server: Any, receive: Receive) -> None:
    """A late repetition of its request does not bring it back."""
    conn_id = server.connect("msg-late", "msg-late")
    keep(server, "msg-late")
    first = send(server, "msg-late", uuid=str(uuid4()))
    server.request("DELETE", "/message", {"uuid": first["uuid"], "channel": "msg-late"})
    again = send(server, "msg-late", uuid=first["uuid"])
    assert again == first | {"timestamp": again["timestamp"], "deleted": True}
    place = {"uuid": first["uuid"], "channel": "msg-late"}
    for method, more in (("PATCH", {"message": {"n": 2}}), ("DELETE", {})):
        assert server.request(method, "/message", place | more).json()["found"] is False
    assert {item["type"] for item in receive("msg-late", conn_id)} - {"message"} == {"message:delete"}
    assert history(server, "msg-late") == []


def test_a_repeated_request_is_delivered_once(server: Any, receive: Receive) -> None:
    """By its Idempotency-Key, with one uuid for each item; another key is another request."""
    conn_id = server.connect("msg-key", "msg-key")
    items = [{"user": "poster", "channel": "msg-key", "message": {"n": n}} for n in range(2)]
    key = str(uuid4())
    first, again, other = (
        server.post("/message", items, headers={"idempotency-key": text})
        for text in (key, key, "other" + key)
    )
    assert again == first
    received = [item["uuid"] for item in receive("msg-key", conn_id)]
    assert received == [item["uuid"] for item in (*first, *other)]
    assert len(set(received)) == 4


def test_a_key_is_never_cut(server: Any) -> None:
    """Two that differ at their ends only are two requests: the longest ones are distinguished, longer ones are refused."""
    item = {"user": "poster", "channel": "msg-key3", "message": {}}

    def post(key: str) -> Any:
        return server.request("POST", "/message", item, headers={"idempotency-key": key})

    first, other = (post("k" * 254 + end).json()["uuid"] for end in "ab")
    assert first != other
    refused = post("k" * 255 + "a")
    assert refused.status_code == 422
    assert refused.json()["faults"] == {"Idempotency-Key": ["Longer than maximum length 255."]}
