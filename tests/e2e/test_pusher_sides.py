"""The same channel from both sides: clients and SDKs of Pusher, and clients and programs of this server's own protocols."""

import json
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import CLUSTER, SQLITE
from tests.http_client import http
from tests.pusher_calls import done
from tests.pusher_client import line

pytestmark = pytest.mark.nodes(1, 3, CLUSTER, SQLITE)

ANNOUNCING = {"notify_presence": True}


def polled(server: Any, conn_id: str, count: int) -> list[dict[str, Any]]:
    """Return the next items of a native connection, at least so many."""
    items: list[dict[str, Any]] = []
    while len(items) < count:
        answer = http.get(server.url + "/listen", params={"conn_id": conn_id})
        assert answer.status_code == 200, answer.text
        items += answer.json()
    return items


def test_a_native_message_is_an_event(server: Any) -> None:
    """Named `message`, with the payload; a payload of an event is that event."""
    with line(server) as client:
        client.joins("psd1")
        payloads = ["hello", {"text": "hello", "n": [1]}, {"event": "created", "data": {"id": 7}}]
        for payload in payloads:
            server.post("/message", {"user": "ann", "channel": "pusher/psd1", "message": payload})
        frames = [client.next() for _ in payloads]
    assert frames == [
        {"event": "message", "channel": "psd1", "data": '"hello"'},
        {"event": "message", "channel": "psd1", "data": '{"text":"hello","n":[1]}'},
        {"event": "created", "channel": "psd1", "data": '{"id":7}'},
    ]


def test_edits_and_deletions_are_events(server: Any) -> None:
    """With the uuid of the message, and what is new of it; of what waits to be sent, only the newest is."""
    uuid = str(uuid4())
    message = {"uuid": uuid, "channel": "pusher/psd2"}
    with line(server) as client:
        client.joins("psd2")
        server.post("/message", message | {"user": "ann", "message": 1})
        assert client.next()["event"] == "message"
        server.request("PATCH", "/message", message | {"message": {"text": "new"}})
        edit = client.next()
        server.request("DELETE", "/message", message)
        deletion = client.next()
    assert (edit["event"], deletion["event"]) == ("message:edit", "message:delete")
    edited = json.loads(edit["data"])
    assert (edited["uuid"], edited["message"], "edited" in edited) == (uuid, {"text": "new"}, True)
    assert json.loads(deletion["data"]) == {"uuid": uuid}


@pytest.mark.parametrize("data", ['{ "id" :7.0 }', "hello", '"hello"', "", '{"a":\n1}'])
def test_an_event_of_an_sdk_reaches_both(server: Any, data: str) -> None:
    """Clients of Pusher get the text as it was sent, native ones a message."""
    conn_id = server.connect("ann", "pusher/psd3", conn_id=f"psd3-{uuid4()}")
    with line(server) as client:
        client.joins("psd3")
        done(server, "POST", "/events", {"name": "created", "channel": "psd3", "data": data})
        assert client.next() == {"event": "created", "channel": "psd3", "data": data}
    (item,) = polled(server, conn_id, 1)
    value = json.loads(data) if data.startswith("{ ") else data
    assert (item["type"], item["user"], item["channel"]) == ("message", "", "pusher/psd3")
    assert item["message"] == {"event": "created", "data": value}


@pytest.mark.parametrize("channel", ["psd4", "private-psd4", "presence-psd4"])
def test_the_sender_of_an_event_is_left_out(server: Any, channel: str) -> None:
    """By the id of its socket, in a presence channel too, where another line of the same member receives it."""
    with line(server) as sender, line(server) as other:
        for client in (sender, other):
            client.joins(channel, *(["ann"] if channel.startswith("presence-") else []))
        event = {"name": "created", "channel": channel, "data": "1", "socket_id": sender.socket_id}
        done(server, "POST", "/events", event)
        assert other.next()["data"] == "1"
        assert sender.nothing_more()


def test_an_event_of_a_client_is_a_message_of_its_member(server: Any) -> None:
    """Natively, with the name and the value."""
    conn_id = server.connect("cid", "pusher/presence-psd5", conn_id=f"psd5-{uuid4()}")
    with line(server) as sender, line(server) as other:
        sender.joins("presence-psd5", "ann")
        other.joins("presence-psd5", "bob")
        assert sender.next()["event"] == "pusher_internal:member_added"
        sender.sends("client-typing", {"at": [1]}, channel="presence-psd5")
        event = {"event": "client-typing", "channel": "presence-psd5", "data": {"at": [1]}}
        assert other.next() == event | {"user_id": "ann"}
    items = polled(server, conn_id, 1)
    while not (messages := [item for item in items if item["type"] == "message"]):
        items = polled(server, conn_id, 1)
    assert messages[0]["user"] == "ann"
    assert (messages[0]["message"]["event"], messages[0]["message"]["data"]) == ("client-typing", {"at": [1]})


def test_presence_joins_both(server: Any) -> None:
    """A user of this server is a member for clients of Pusher, and a member is a user for native ones."""
    channel = "pusher/presence-psd6"
    state = {"user_state": {"color": "red"}, "state_public_keys": ["color"]}
    with line(server) as client:
        client.joins("presence-psd6", "ann", {"name": "Ann", "nested": {"a": 1}})
        conn_id = server.connect(
            "bob", channel, conn_id=f"psd6-{uuid4()}", channel_configs={channel: ANNOUNCING}, **state
        )
        added = client.next()
        assert (added["event"], json.loads(added["data"])) == (
            "pusher_internal:member_added",
            {"user_id": "bob", "user_info": {"color": "red"}},
        )
        with line(server) as other:
            presence = other.joins("presence-psd6", 7)["presence"]
            assert sorted(presence["ids"]) == ["7", "ann", "bob"]
            assert presence["hash"]["bob"] == {"color": "red"}
            assert presence["hash"]["ann"] == {"name": "Ann", "nested": {"a": 1}}
            users = done(server, "GET", "/channels/presence-psd6/users")["users"]
            assert sorted(each["id"] for each in users) == ["7", "ann", "bob"]
            assert client.next()["event"] == "pusher_internal:member_added"
        left = client.next()
        assert (left["event"], json.loads(left["data"])) == (
            "pusher_internal:member_removed",
            {"user_id": "7"},
        )
        server.post("/disconnect", {"conn_id": conn_id})
        assert json.loads(client.next()["data"]) == {"user_id": "bob"}
    watcher = server.connect("cid", channel, conn_id=f"psd6-{uuid4()}", channel_configs={channel: ANNOUNCING})
    with line(server) as client:
        client.joins("presence-psd6", "dan", {"name": "Dan", "age": 7, "nested": {}})
        joined = next(item for item in polled(server, watcher, 1) if item["message"]["action"] == "joined")
    assert (joined["type"], joined["user"]) == ("presence", "dan")
    info = '{"name": "Dan", "age": 7, "nested": {}}'
    assert joined["state"] == {"name": "Dan", "age": 7, "pusher:user_info": info}


def test_members_of_a_cache_channel_are_announced(server: Any) -> None:
    """Also if an event comes before the first member, and brings the channel into being."""
    name = f"presence-cache-{uuid4().hex}"
    channel = f"pusher/{name}"
    done(server, "POST", "/events", {"name": "hi", "channel": name, "data": "1"})
    watcher = server.connect("cid", channel, conn_id=str(uuid4()))
    with line(server) as client:
        client.joins(name, "dan")
        assert client.next()["event"] == "hi"
        done(server, "POST", "/events", {"name": "hi", "channel": name, "data": "2"})
        joined = polled(server, watcher, 1)[0]
    assert (joined["type"], joined["user"]) == ("presence", "dan")
