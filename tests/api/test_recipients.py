"""Who receives a message, an edit or a deletion, and who may be named."""

from typing import Any
from uuid import uuid4

import pytest
from tests.api.messages import Receive, history, keep, send
from tests.conftest import CLUSTER

from channelstream.api.fields import MAX_NAMES, MAX_PRIVATE
from channelstream.slices import SET_STEP

pytestmark = pytest.mark.nodes(1, CLUSTER)


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


def test_an_edit_of_a_private_message_is_private(server: Any, receive: Receive) -> None:
    """It is delivered to the users it names, and to no others in the channel."""
    ann, eve = (server.connect(f"msg-pmedit-{name}", "msg-pmedit") for name in ("ann", "eve"))
    only = {"channel": "msg-pmedit", "pm_users": ["msg-pmedit-ann"]}
    uuid = server.post("/message", {"user": "poster", "message": {}} | only)["uuid"]
    assert server.request("PATCH", "/message", only | {"uuid": uuid, "message": {"n": 2}}).json()["found"]
    assert [item["type"] for item in receive("msg-pmedit-ann", ann)] == ["message", "message:edit"]
    assert receive("msg-pmedit-eve", eve) == []
