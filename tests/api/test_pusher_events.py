"""Events that servers of applications send with Pusher's SDKs: what is accepted, and what native clients receive."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import convert
from tests.conftest import CLUSTER, SQLITE
from tests.pusher_calls import KIT, call, done

from channelstream.api.answers import ChannelInfo
from channelstream.core.pusher_signing import conn_id_of

pytestmark = pytest.mark.nodes(1, 3, CLUSTER, SQLITE)

Receive = Callable[[str, str], list[dict[str, Any]]]
EVENT = {"name": "created", "channels": ["pev-a"], "data": '{"id": 7}'}


def received(receive: Receive, user: str, conn_id: str) -> list[tuple[str, Any]]:
    """Return the channel and the message of everything that a connection receives."""
    return [(item["channel"], item["message"]) for item in receive(user, conn_id)]


def test_an_event_is_a_message_of_native_clients(server: Any, receive: Receive) -> None:
    """Its data is the value that the JSON stands for, or the text; its user is nobody."""
    conn_id = server.connect("pev-1", "pusher/pev-1", "pev-1")
    for data in ('{"id": 7}', "hello", '"hello"', "", "\U0001f600"):
        assert done(server, "POST", "/events", {"name": "created", "channel": "pev-1", "data": data}) == {}
    values = [{"id": 7}, "hello", '"hello"', "", "\U0001f600"]
    items = receive("pev-1", conn_id)
    assert [item["message"] for item in items] == [{"event": "created", "data": value} for value in values]
    assert {(item["channel"], item["user"], item["type"]) for item in items} == {
        ("pusher/pev-1", "", "message")
    }


def test_an_event_in_a_history_is_as_the_document_says(server: Any) -> None:
    """Its user is nobody."""
    name = "pusher/pev-kept"
    server.connect("pev-kept", name, channel_configs={name: {"store_history": True}})
    done(server, "POST", "/events", EVENT | {"channels": ["pev-kept"]})
    channel = server.post("/info", {"info": {"channels": [name]}})["channels"][name]
    assert [item.user for item in convert(channel, ChannelInfo).history] == [""]


def test_each_channel_gets_one_copy(server: Any, receive: Receive) -> None:
    """In the order in which they are named, however often."""
    names = [f"pev-2{letter}" for letter in "abc"]
    conn_id = server.connect("pev-2", *(f"pusher/{name}" for name in names))
    body = EVENT | {"channels": [names[2], names[0], names[2], names[1]]}
    assert done(server, "POST", "/events", body) == {}
    message = {"event": "created", "data": {"id": 7}}
    assert sorted(received(receive, "pev-2", conn_id)) == [(f"pusher/{name}", message) for name in names]


def test_a_batch_is_sent_in_its_order(server: Any, receive: Receive) -> None:
    """As several calls would be."""
    conn_id = server.connect("pev-3", "pusher/pev-3")
    batch = [{"name": f"e{number}", "channel": "pev-3", "data": str(number)} for number in range(10)]
    assert done(server, "POST", "/batch_events", {"batch": batch}) == {}
    done(server, "POST", "/events", EVENT | {"channels": ["pev-3"]})
    events = [message["event"] for _, message in received(receive, "pev-3", conn_id)]
    assert events == [*(f"e{number}" for number in range(10)), "created"]


def test_one_connection_is_left_out(server: Any, receive: Receive) -> None:
    """That of the socket id, of which its conn_id is made; an unknown one leaves nobody out."""
    out, other = conn_id_of(KIT["SECRET"], "12.4"), conn_id_of(KIT["SECRET"], "12.5")
    for conn_id in (out, other):
        server.connect("pev-4", "pusher/pev-4", conn_id=conn_id)
    batch = [
        {"name": f"e{number}", "channel": "pev-4", "data": "", "socket_id": socket_id}
        for number, socket_id in enumerate(("12.4", "99.9", None))
    ]
    done(server, "POST", "/batch_events", {"batch": batch})
    done(server, "POST", "/events", EVENT | {"channels": ["pev-4"], "socket_id": "12.4"})
    assert [message["event"] for _, message in received(receive, "pev-4", out)] == ["e1", "e2"]
    assert [message["event"] for _, message in received(receive, "pev-4", other)] == [
        *("e0", "e1", "e2"),
        "created",
    ]


def test_answers_have_the_counts_of_their_channels(server: Any) -> None:
    """Only those that are asked for, and that of users for presence channels only."""
    for user, conn in (("ann", "1"), ("ann", "2"), ("bob", "3")):
        server.connect(user, "pusher/presence-pev-5", "pusher/pev-5", conn_id=f"pev-5-{conn}")
    both = "subscription_count,user_count"
    body = EVENT | {"channels": ["pev-5", "presence-pev-5", "pev-5-empty"], "info": both}
    assert done(server, "POST", "/events", body)["channels"] == {
        "pev-5": {"subscription_count": 3},
        "presence-pev-5": {"subscription_count": 3, "user_count": 2},
        "pev-5-empty": {"subscription_count": 0},
    }
    batch = [
        {"name": "a", "data": "", "channel": "presence-pev-5", "info": "user_count"},
        {"name": "a", "data": "", "channel": "pev-5"},
        {"name": "a", "data": "", "channel": "pev-5", "info": "user_count"},
        {"name": "a", "data": "", "channel": "#server-to-user-pev-5", "info": both},
    ]
    answer = done(server, "POST", "/batch_events", {"batch": batch})
    assert answer == {"batch": [{"user_count": 2}, {}, {}, {}]}


GOOD = {"name": "a", "channel": "pev-6", "data": ""}
BAD_ITEMS: list[tuple[dict[str, Any], int, str]] = [
    ({"data": None}, 400, "data"),
    ({"data": 7}, 400, "data"),
    ({"data": {"a": 1}}, 400, "data"),
    ({"data": "x" * 10_241}, 413, ""),
    ({"data": "\u00e4" * 5_121}, 413, ""),
    ({"name": ""}, 400, "name"),
    ({"name": None}, 400, "name"),
    ({"name": 7}, 400, "name"),
    ({"name": "x" * 201}, 400, "name"),
    ({"name": "pusher:error"}, 400, "name"),
    ({"name": "pusher_internal:member_added"}, 400, "name"),
    ({"name": "\ud800"}, 400, "name"),
    ({"data": "\ud800"}, 400, "data"),
    ({"channel": ""}, 400, "channel"),
    ({"channel": "a b"}, 400, "channel"),
    ({"channel": "a/b"}, 400, "channel"),
    ({"channel": "#other"}, 400, "channel"),
    ({"channel": "#server-to-user-"}, 400, "channel"),
    ({"channel": "x" * 201}, 400, "channel"),
    ({"channel": 7}, 400, "channel"),
    ({"socket_id": "12"}, 400, "socket_id"),
    ({"socket_id": "12.3x"}, 400, "socket_id"),
    ({"socket_id": ""}, 400, "socket_id"),
    ({"socket_id": 12.3}, 400, "socket_id"),
    ({"info": "user_count,other"}, 400, "info"),
    ({"info": "cache"}, 400, "info"),
    ({"info": ["user_count"]}, 400, "info"),
]


@pytest.mark.parametrize(("change", "status", "field"), BAD_ITEMS)
def test_a_faulty_event_is_refused(server: Any, change: dict[str, Any], status: int, field: str) -> None:
    """Alone, and in a batch with good ones; the error names the field."""
    body = GOOD | change
    answers = [
        call(server, "POST", "/events", body),
        call(server, "POST", "/batch_events", {"batch": [GOOD, body]}),
    ]
    for answer in answers:
        assert answer.status_code == status, answer.text
        assert answer.json()["code"] == ("invalid" if status == 400 else "too_long")
        assert answer.json().keys() <= {"error", "code", "faults"}, "The SDK of .NET reads further keys."
    if field:
        alone = "channels" if field == "channel" and isinstance(change["channel"], str) else field
        assert list(answers[0].json()["faults"]) == [alone]
        assert list(answers[1].json()["faults"]["batch"]["1"]) == [field]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/events", b"{", 400, "malformed"),
        ("/events", b"", 400, "malformed"),
        ("/events", b"\xff", 400, "malformed"),
        ("/events", b"[" * 5000, 400, "malformed"),
        ("/events", [], 400, "invalid"),
        ("/events", "text", 400, "invalid"),
        ("/events", {"name": "a", "data": ""}, 400, "invalid"),
        ("/events", {"name": "a", "data": "", "channels": []}, 400, "invalid"),
        ("/events", {"name": "a", "data": "", "channels": ["ok", "a/b"]}, 400, "invalid"),
        ("/events", {"name": "a", "data": "", "channels": ["ok", 7]}, 400, "invalid"),
        ("/events", {"name": "a", "data": "", "channels": {"0": "ok"}}, 400, "invalid"),
        ("/events", {"name": "a", "data": "", "channels": [f"c{n}" for n in range(101)]}, 400, "invalid"),
        ("/batch_events", b"{", 400, "malformed"),
        ("/batch_events", {}, 400, "invalid"),
        ("/batch_events", {"batch": []}, 400, "invalid"),
        ("/batch_events", {"batch": "text"}, 400, "invalid"),
        ("/batch_events", {"batch": ["text"]}, 400, "invalid"),
        ("/batch_events", {"batch": [["text"]]}, 400, "invalid"),
        ("/batch_events", {"batch": [GOOD, {"name": "a", "data": ""}]}, 400, "invalid"),
        ("/batch_events", {"batch": [GOOD] * 11}, 400, "invalid"),
        ("/batch_events", {"batch": [GOOD | {"data": "x" * 10_241}, GOOD | {"name": 1}]}, 400, "invalid"),
        ("/events", b" " * (4 * 1024 * 1024 + 1), 413, "too_large"),
    ],
)
def test_a_faulty_body_is_refused(server: Any, path: str, body: Any, status: int, code: str) -> None:
    """400 before 413, with the form of all errors."""
    answer = call(server, "POST", path, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["error"].endswith(".")


def test_what_is_just_short_enough_is_sent(server: Any, receive: Receive) -> None:
    """Names, data, channels and batches at their bounds; nulls of optional fields are none."""
    conn_id = server.connect("pev-7", "pusher/" + "x" * 200, "pusher/#server-to-user-\u00e4 / b")
    name, data = "\u00e4" * 200, "\u00e4" * 5_120
    for channel in ("x" * 200, "#server-to-user-\u00e4 / b"):
        item = {"name": name, "channel": channel, "data": data, "socket_id": None, "info": None}
        done(server, "POST", "/events", item | {"channels": None})
        done(server, "POST", "/batch_events", {"batch": [item]})
    names = [*(f"pev-7-{number}" for number in range(99)), "x" * 200]
    done(server, "POST", "/events", {"name": name, "data": data, "channels": names, "info": ""})
    messages = [message for _, message in received(receive, "pev-7", conn_id)]
    assert messages == [{"event": name, "data": data}] * 5


def test_a_refused_call_sends_nothing(server: Any, receive: Receive) -> None:
    """Not even the good events before the fault."""
    conn_id = server.connect("pev-8", "pusher/pev-8")
    good = GOOD | {"channel": "pev-8"}
    for fault in ({"name": 7}, {"data": "x" * 10_241}, {"channel": "a b"}):
        answer = call(server, "POST", "/batch_events", {"batch": [good, good | fault]})
        assert answer.status_code in (400, 413)
    for body in (
        {"name": "a", "data": "", "channels": ["pev-8", "a b"]},
        {"name": "a", "data": "", "channels": ["pev-8"], "info": "other"},
    ):
        assert call(server, "POST", "/events", body).status_code == 400
    wrong = dict(KIT, SECRET="wrong")
    assert call(server, "POST", "/events", good, app=wrong).status_code == 401
    assert received(receive, "pev-8", conn_id) == []


def test_fields_that_are_not_known_are_ignored(server: Any) -> None:
    """SDKs of later versions may send more."""
    assert done(server, "POST", "/events", GOOD | {"tags": {"a": 1}, "more": None}) == {}


def test_a_signature_may_be_shown_again(server: Any, receive: Receive) -> None:
    """Two equal calls in a second have the same one: the protocol has nothing that counts once."""
    conn_id = server.connect("pev-9", "pusher/pev-9")
    for _ in range(3):
        done(server, "POST", "/events", EVENT | {"channels": ["pev-9"]})
    assert len(received(receive, "pev-9", conn_id)) == 3


def test_json_in_the_answer_is_an_object(server: Any) -> None:
    """Exactly two bytes, as SDKs of typed languages expect."""
    answer = call(server, "POST", "/events", EVENT)
    assert (answer.content, json.loads(answer.content)) == (b"{}", {})
