"""Messages are sent, edited and deleted; over HTTP, received by long polls."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import CLUSTER
from tests.http_client import http

from channelstream.api.fields import MAX_NAMES, MAX_PRIVATE
from channelstream.slices import SET_STEP

pytestmark = pytest.mark.nodes(1, CLUSTER)

Receive = Callable[[str, str], list[dict[str, Any]]]


def send(server: Any, channel: str, **more: Any) -> Any:
    return server.post("/message", {"user": "poster", "channel": channel, "message": {"n": 1}} | more)


def history(server: Any, channel: str) -> Any:
    """The messages /info shows of a channel."""
    reply = server.post("/info", {"info": {"channels": [channel]}})
    return reply["channels"][channel]["history"]


def keep(server: Any, channel: str, **settings: Any) -> None:
    """Let a channel keep its messages for /info."""
    server.post("/channel_config", {channel: {"store_history": True} | settings})


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


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


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


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("nobody", [{}, {"channel": None, "pm_users": None}, {"pm_users": []}])
def test_a_message_without_recipients_is_refused(server: Any, method: str, nobody: Any) -> None:
    """Without channel and pm_users it is left out of a list, as in 0.7.1; alone it is refused."""
    body = {"user": "poster", "message": {"n": 1}, "uuid": str(uuid4()), **nobody}
    good = body | {"channel": "msg-somebody", "uuid": str(uuid4())}
    answer = server.request(method, "/message", [body, good, body]).json()
    assert [item["uuid"] for item in answer] == [good["uuid"]]
    assert server.request(method, "/message", [body]).json() == []
    alone = server.request(method, "/message", body)
    assert (alone.status_code, list(alone.json()["faults"])) == (422, ["channel"])


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_an_empty_channel_name_is_refused(server: Any, method: str) -> None:
    """422, in a list too, but beside users it is none, as old programs write it."""
    body = {"user": "poster", "uuid": str(uuid4()), "channel": ""}
    fault = {"channel": ["Name a channel, or the users it is for in pm_users."]}
    assert server.request(method, "/message", body).json()["faults"] == fault
    assert server.request(method, "/message", [body]).json()["faults"] == {"0": fault}
    assert server.request(method, "/message", body | {"pm_users": ["ann"]}).json()["channel"] is None


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_channel_message_names_a_bounded_number_of_users(server: Any, method: str) -> None:
    """More are refused, with the field; to so many without a channel, or to the most in one, it is sent."""
    names = [f"u{number}" for number in range(MAX_NAMES + 1)]
    body = {"user": "poster", "uuid": str(uuid4())}
    in_channel = body | {"channel": "msg-names"}
    for field in ("pm_users", "exclude_users"):
        refused = server.request(method, "/message", in_channel | {field: names})
        assert (refused.status_code, list(refused.json()["faults"])) == (422, [field])
        assert server.request(method, "/message", in_channel | {field: names[:-1]}).status_code == 200
    assert server.request(method, "/message", body | {"pm_users": names}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_private_message_names_a_bounded_number_of_users(server: Any, method: str) -> None:
    """More are refused, with the field, also in a list; the most are not."""
    body = {"user": "poster", "uuid": str(uuid4()), "pm_users": ["ann"] * (MAX_PRIVATE + 1)}
    fault = {"pm_users": ["Longer than maximum length 100000."]}
    assert server.request(method, "/message", body).json()["faults"] == fault
    assert server.request(method, "/message", [body]).json()["faults"] == {"0": fault}
    assert server.request(method, "/message", body | {"pm_users": ["ann"] * MAX_PRIVATE}).status_code == 200


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


def test_private_messages_reach_the_connections_of_their_users(server: Any, receive: Receive) -> None:
    """Within a channel to its members among the users; without one to all connections of the users."""
    inside = server.connect("msg-pm-ann", "msg-pm")
    outside = server.connect("msg-pm-ann")
    other = server.connect("msg-pm-eve", "msg-pm")
    keep(server, "msg-pm")
    send(server, "msg-pm", pm_users=["msg-pm-ann"], message={"n": 1})
    send(server, "", pm_users=["msg-pm-ann"], message={"n": 2})
    received = {conn_id: receive("msg-pm-ann", conn_id) for conn_id in (inside, outside)}
    assert [(item["channel"], item["message"]["n"]) for item in received[inside]] == [
        ("msg-pm", 1),
        (None, 2),
    ]
    assert [item["message"]["n"] for item in received[outside]] == [2]
    assert receive("msg-pm-eve", other) == []
    assert history(server, "msg-pm") == []


def test_excluded_users_receive_nothing(server: Any, receive: Receive) -> None:
    """In a channel, and among the users of a private message."""
    ann, bob = (server.connect(f"msg-ex-{name}", "msg-ex") for name in ("ann", "bob"))
    send(server, "msg-ex", exclude_users=["msg-ex-bob"], message={"n": 1})
    both = ["msg-ex-ann", "msg-ex-bob"]
    send(server, "", pm_users=both, exclude_users=["msg-ex-bob"], message={"n": 2})
    send(server, "msg-ex", pm_users=both, exclude_users=["msg-ex-bob"], message={"n": 3})
    assert [item["message"]["n"] for item in receive("msg-ex-ann", ann)] == [1, 2, 3]
    assert receive("msg-ex-bob", bob) == []


@pytest.mark.parametrize("count", [SET_STEP, SET_STEP + 1])
def test_a_message_for_very_many_users_reaches_no_other(server: Any, receive: Receive, count: int) -> None:
    """Alone, and in a list beside one for all."""
    ann, eve = (server.connect(f"msg-set-{name}", "msg-set") for name in ("ann", "eve"))
    send(server, "msg-set", pm_users=(users := ["msg-set-ann", *map(str, range(count - 1))]))
    for_all = {"user": "poster", "channel": "msg-set", "message": {"n": 3}}
    server.post("/message", [for_all | {"pm_users": users, "message": {"n": 2}}, for_all])
    assert [item["message"]["n"] for item in receive("msg-set-ann", ann)] == [1, 2, 3]
    assert [item["message"]["n"] for item in receive("msg-set-eve", eve)] == [3]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_excluded_users_receive_no_change(server: Any, receive: Receive, method: str) -> None:
    """The others do."""
    ann, bob = (server.connect(f"msg-exchange-{name}", "msg-exchange") for name in ("ann", "bob"))
    change = {"uuid": str(uuid4()), "channel": "msg-exchange", "exclude_users": ["msg-exchange-bob"]}
    assert server.request(method, "/message", change).status_code == 200
    assert [item["uuid"] for item in receive("msg-exchange-ann", ann)] == [change["uuid"]]
    assert receive("msg-exchange-bob", bob) == []


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


def test_an_edit_is_delivered_and_kept(server: Any, receive: Receive) -> None:
    """Named fields replace the sent ones; an edit of a message that is not kept is `found: false` and delivered."""
    keep(server, "msg-edit")
    conn_id = server.connect("msg-edit", "msg-edit")
    uuid = send(server, "msg-edit")["uuid"]
    edit = {"uuid": uuid.upper(), "channel": "msg-edit", "message": {"n": 2}}
    answer = server.request("PATCH", "/message", edit).json()
    assert (answer["uuid"], answer["found"], answer["message"]) == (uuid, True, {"n": 2})
    unknown = {"uuid": str(uuid4()), "channel": "msg-edit", "user": "new name"}
    (second,) = server.request("PATCH", "/message", [unknown]).json()
    assert second["found"] is False
    _, first, other = receive("msg-edit", conn_id)
    assert (first["type"], first["uuid"], first["message"]) == ("message:edit", uuid, {"n": 2})
    assert first["edited"] == answer["edited"]
    assert "user" not in first
    assert (other["uuid"], other["user"]) == (unknown["uuid"], "new name")
    (kept,) = history(server, "msg-edit")
    assert (kept["message"], kept["user"], kept["edited"]) == ({"n": 2}, "poster", answer["edited"])


def test_an_edit_keeps_the_time_it_names(server: Any) -> None:
    """In the answer and in the history; without one it is now."""
    keep(server, "msg-edited")
    uuid = send(server, "msg-edited")["uuid"]
    edit = {"uuid": uuid, "channel": "msg-edited", "edited": "2011-09-15T11:36+02"}
    answer = server.request("PATCH", "/message", edit).json()
    assert answer["edited"] == history(server, "msg-edited")[0]["edited"] == "2011-09-15T09:36:00.000000"
    assert server.request("PATCH", "/message", edit | {"edited": None}).json()["edited"] > answer["edited"]


def test_a_deletion_is_delivered_and_kept(server: Any, receive: Receive) -> None:
    """The history forgets the message."""
    keep(server, "msg-delete")
    conn_id = server.connect("msg-delete", "msg-delete")
    first, second = (send(server, "msg-delete")["uuid"] for _ in range(2))
    answer = server.request("DELETE", "/message", {"uuid": first, "channel": "msg-delete"}).json()
    assert (answer["uuid"], answer["found"]) == (first, True)
    unknown = {"uuid": str(uuid4()), "channel": "msg-delete"}
    assert server.request("DELETE", "/message", [unknown]).json()[0]["found"] is False
    # What was deleted is not sent any more, unless it was on its way already.
    deletions = [item for item in receive("msg-delete", conn_id) if item["type"] == "message:delete"]
    assert [item["uuid"] for item in deletions] == [first, unknown["uuid"]]
    assert set(deletions[0]) - {"catchup"} == {"type", "uuid", "channel", "position"}
    assert [item["uuid"] for item in history(server, "msg-delete")] == [second]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_changes_are_all_or_nothing(server: Any, receive: Receive, method: str) -> None:
    """One without a uuid refuses the others."""
    conn_id = server.connect("msg-all", "msg-all")
    items = [{"uuid": str(uuid4()), "channel": "msg-all"}, {"channel": "msg-all"}]
    answer = server.request(method, "/message", items)
    assert (answer.status_code, list(answer.json()["faults"])) == (422, ["1"])
    assert receive("msg-all", conn_id) == []


def test_an_edit_of_a_private_message_is_private(server: Any, receive: Receive) -> None:
    """It is delivered to the users it names, and to no others in the channel."""
    ann, eve = (server.connect(f"msg-pmedit-{name}", "msg-pmedit") for name in ("ann", "eve"))
    only = {"channel": "msg-pmedit", "pm_users": ["msg-pmedit-ann"]}
    uuid = server.post("/message", {"user": "poster", "message": {}} | only)["uuid"]
    assert server.request("PATCH", "/message", only | {"uuid": uuid, "message": {"n": 2}}).json()["found"]
    assert [item["type"] for item in receive("msg-pmedit-ann", ann)] == ["message", "message:edit"]
    assert receive("msg-pmedit-eve", eve) == []


def test_the_same_uuid_is_delivered_once(server: Any, receive: Receive) -> None:
    """The second time the answer is that of the first message, also within one request."""
    conn_id = server.connect("msg-once", "msg-once")
    uuid = str(uuid4())
    first = send(server, "msg-once", uuid=uuid)
    assert send(server, "msg-once", uuid=uuid.upper(), message={"n": 2}) == first
    twice = [{"user": "poster", "channel": "msg-once", "message": {}, "uuid": str(uuid4())}] * 2
    assert len({item["timestamp"] for item in server.post("/message", twice)}) == 1
    assert [item["uuid"] for item in receive("msg-once", conn_id)] == [uuid, twice[0]["uuid"]]


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


def test_a_key_belongs_to_its_channel(server: Any, receive: Receive) -> None:
    """The same key for another channel does not suppress that channel's message."""
    conn_id = server.connect("msg-key2", "msg-key2-a", "msg-key2-b")
    for name in ("msg-key2-a", "msg-key2-b"):
        send(server, name, uuid="9c1f3e52-4f0c-4f7c-8f6c-2a1f6f0e3b11")
    assert [item["channel"] for item in receive("msg-key2", conn_id)] == ["msg-key2-a", "msg-key2-b"]
