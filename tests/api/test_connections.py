"""Connections come, take channels, leave them and end; over HTTP, received by long polls."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from tests.conftest import CLUSTER
from tests.http_client import http

pytestmark = pytest.mark.nodes(1, CLUSTER)

Receive = Callable[[str, str], list[dict[str, Any]]]


def channel(server: Any, name: str) -> Any:
    """What /info returns for one channel; None when there is none."""
    return server.post("/info", {"info": {"channels": [name]}})["channels"].get(name)


def refused(server: Any, path: str, payload: Any) -> Any:
    """The faults of a request that must be refused."""
    answer = server.request("POST", path, payload)
    assert answer.status_code == 422, answer.text
    return answer.json()["faults"]


def test_the_answer_describes_a_new_connection(server: Any) -> None:
    """With the keys of 0.7.1, and the seed's `status` beside them."""
    answer = server.post(
        "/connect",
        {
            "username": "conn-all",
            "channels": ["conn-all-b", "conn-all-a", "conn-all-b"],
            "fresh_user_state": {"level": 1, "hidden": None},
            "user_state": {"color": "blue"},
            "state_public_keys": ["color"],
        },
    )
    assert str(UUID(answer["conn_id"])) == answer["conn_id"]
    assert answer["state"] == {"level": 1, "color": "blue"}
    assert answer["public_state"] == {"color": "blue"}
    assert (answer["username"], answer["status"]) == ("conn-all", 0)
    assert answer["channels"] == ["conn-all-a", "conn-all-b"]
    reply = answer["channels_info"]
    assert reply["users"] == [{"user": "conn-all", "state": answer["state"]}]
    one = reply["channels"]["conn-all-a"]
    assert (one["total_users"], one["total_connections"], one["users"]) == (1, 1, ["conn-all"])
    assert (one["name"], one["long_name"], one["history"]) == ("conn-all-a", None, [])


@pytest.mark.parametrize("more", [{}, {"channels": ["conn-short-b"]}, {"exclude_channels": ["conn-short-b"]}])
def test_a_short_description_has_the_same_form(server: Any, more: dict[str, Any]) -> None:
    """As one with histories and users, where there are neither; it may be made in another way."""

    def described(user: str, info: dict[str, Any]) -> Any:
        names = ["conn-short-a", "conn-short-b"]
        answer = server.post("/connect", {"username": user, "channels": names, "info": info | more})
        server.post("/disconnect", {"conn_id": answer.pop("conn_id")})
        assert answer["username"] == user
        reply = answer.pop("channels_info")
        # A node may know of less than the one that was asked before.
        positions = {channel.pop("position") for channel in reply["channels"].values()}
        assert positions == {reply["position"]} == {answer["position"]}
        channels = {
            name: {**channel, "last_active": "", "users": []} for name, channel in reply["channels"].items()
        }
        return channels, answer["channels"], answer["state"], list(answer), list(reply)

    long = described("conn-short-1", {"include_users": False})
    assert described("conn-short-2", {"include_users": False, "include_history": False}) == long
    assert described("conn-short-3", {}) == long


@pytest.mark.parametrize("more", [{}, {"username": "conn-protocol-new"}])
def test_the_name_key_selects_the_protocol(server: Any, receive: Receive, more: dict[str, str]) -> None:
    """`user` alone is the seed's; `username` wins where both are there."""
    payload = {"user": "conn-protocol-seed", "channels": ["conn-protocol"], "conn_id": f"d{len(more)}"}
    answer = server.post("/connect", payload | more)
    name = more.get("username", "conn-protocol-seed")
    assert answer["username"] == name
    server.post("/message", {"user": "x", "channel": "conn-protocol", "message": {"a": 1}})
    (received,) = [item for item in receive(name, answer["conn_id"]) if item["type"] == "message"]
    assert ("date" in received) is (not more)


def test_a_connection_without_a_user_is_refused(server: Any) -> None:
    """A connection needs a user."""
    assert refused(server, "/connect", {"channels": ["x"]}) == {
        "username": ["Missing data for required field."]
    }


def test_all_faults_are_reported_at_once(server: Any) -> None:
    """By field and by item."""
    faults = refused(
        server, "/connect", {"username": "", "channels": [1, "ok"], "user_state": {"a": []}, "conn_id": " "}
    )
    assert set(faults) == {"username", "channels", "user_state", "conn_id"}
    assert list(faults["channels"]) == ["0"]
    assert list(faults["user_state"]["a"]) == ["value"]


def test_spellings_of_one_uuid_are_one_connection(server: Any) -> None:
    """Answered lower-case and dashed."""
    uuid = uuid4()
    first = server.connect("conn-spelling", "conn-spelling", conn_id=uuid.hex.upper())
    assert first == str(uuid)
    server.connect("conn-spelling", "conn-spelling", conn_id=f"{{{uuid}}}")
    assert channel(server, "conn-spelling")["total_connections"] == 1


def test_any_visible_text_is_a_conn_id(server: Any) -> None:
    """It is not changed."""
    assert server.connect("conn-text", conn_id="My-Tab_1") == "My-Tab_1"
    assert list(refused(server, "/connect", {"username": "conn-text", "conn_id": "x" * 129})) == ["conn_id"]


def test_channels_are_optional(server: Any) -> None:
    """An empty list, null and nothing are the same."""
    for more in ({}, {"channels": []}, {"channels": None}):
        assert server.post("/connect", {"username": "conn-bare"} | more)["channels"] == []


def test_another_user_cannot_take_over_a_connection(server: Any) -> None:
    """422, and nothing has changed."""
    conn_id = server.connect("conn-owner", "conn-owned")
    payload = {"username": "conn-thief", "conn_id": conn_id, "channels": ["conn-stolen"]}
    assert list(refused(server, "/connect", payload)) == ["conn_id"]
    assert channel(server, "conn-owned")["users"] == ["conn-owner"]
    assert channel(server, "conn-stolen") is None
    assert refused(server, "/user_state", {"user": "conn-thief"}) == {"user": ["Unknown user"]}


def test_a_second_connect_adds_its_channels(server: Any, receive: Receive) -> None:
    """The connection receives the old and the new ones, and counts once."""
    conn_id = server.connect("conn-again", "conn-again-1")
    answer = server.post(
        "/connect", {"username": "conn-again", "conn_id": conn_id, "channels": ["conn-again-2"]}
    )
    assert answer["channels"] == ["conn-again-1", "conn-again-2"]
    for name in answer["channels"]:
        server.post("/message", {"user": "x", "channel": name, "message": {}})
    assert [item["channel"] for item in receive("conn-again", conn_id)] == answer["channels"]
    assert channel(server, "conn-again-1")["total_connections"] == 1


def test_a_state_has_whole_numbers_of_any_size(server: Any) -> None:
    """Also that of a connection which another node may have; there is no MessagePack of them."""
    states = [{"big": 2**64, "small": -(10**40), "one": 1.0}, {"big": 2**80}]
    for state in states:
        body = {
            "username": "conn-big",
            "conn_id": "conn-big-id",
            "channels": ["conn-big-a"],
            "user_state": state,
        }
        answer = server.post("/connect", body)
        assert answer["state"]["big"] == state["big"]
    assert answer["state"] == {**states[0], **states[1]}


def test_a_refused_second_connect_changes_nothing(server: Any) -> None:
    """Neither its channels nor its state; too many state keys are found before channels are joined."""
    conn_id = server.connect("conn-atomic")
    state = {f"key-{number}": 1 for number in range(257)}
    payload = {
        "username": "conn-atomic",
        "conn_id": conn_id,
        "channels": ["conn-atomic"],
        "user_state": state,
    }
    assert list(refused(server, "/connect", payload)) == ["user_state"]
    assert channel(server, "conn-atomic") is None


def test_configs_apply_to_new_channels_only(server: Any) -> None:
    """And only to those that are joined."""
    server.post("/channel_config", {"conn-old": {"history_size": 3}})
    config = {"history_size": 7, "store_history": True}
    server.connect(
        "conn-config",
        "conn-old",
        "conn-new",
        channel_configs={"conn-old": config, "conn-new": config, "conn-absent": config},
    )
    assert channel(server, "conn-old")["settings"]["history_size"] == 3
    assert channel(server, "conn-new")["settings"]["history_size"] == 7
    assert channel(server, "conn-new")["settings"]["notify_state"] is False
    assert channel(server, "conn-absent") is None


def test_the_caller_chooses_the_info_of_the_answer(server: Any) -> None:
    """History, users, connections and channels, in the answers of /connect and /subscribe alike."""
    info = {
        "include_history": False,
        "include_users": False,
        "include_connections": True,
        "exclude_channels": ["conn-info-2"],
    }
    config = {"store_history": True}
    server.post("/channel_config", {"conn-info-1": config, "conn-info-2": config})
    server.post("/message", {"user": "x", "channel": "conn-info-1", "message": {}})
    answer = server.post(
        "/connect", {"username": "conn-info", "channels": ["conn-info-1", "conn-info-2"], "info": info}
    )
    reply = answer["channels_info"]
    assert list(reply["channels"]) == ["conn-info-1"]
    one = reply["channels"]["conn-info-1"]
    assert (one["history"], one["users"], reply["users"]) == ([], [], [])
    assert (one["total_users"], one["connections"]) == (1, [answer["conn_id"]])
    more = {"conn_id": answer["conn_id"], "channels": ["conn-info-1"]}
    assert len(server.post("/subscribe", more)["channels_info"]["channels"]["conn-info-1"]["history"]) == 1


def test_subscribing_returns_the_new_channels(server: Any) -> None:
    """All channels sorted, and the new ones; the conn_id may stand in the query."""
    conn_id = server.connect("conn-sub", "conn-sub-b")
    payload = {"conn_id": conn_id, "channels": ["conn-sub-c", "conn-sub-a", "conn-sub-b"]}
    answer = server.post("/subscribe", payload)
    assert answer["channels"] == ["conn-sub-a", "conn-sub-b", "conn-sub-c"]
    assert answer["subscribed_to"] == ["conn-sub-a", "conn-sub-c"]
    assert sorted(answer["channels_info"]["channels"]) == answer["channels"]
    again = server.post(f"/subscribe?conn_id={conn_id}", {"channels": ["conn-sub-a"]})
    assert again["subscribed_to"] == []


def test_unsubscribing_returns_the_remaining_channels(server: Any, receive: Receive) -> None:
    """And the connection no longer receives the channel."""
    conn_id = server.connect("conn-unsub", "conn-unsub-1", "conn-unsub-2")
    payload = {"conn_id": conn_id, "channels": ["conn-unsub-1", "conn-unsub-unknown"]}
    answer = server.post("/unsubscribe", payload)
    assert (answer["channels"], answer["unsubscribed_from"]) == (["conn-unsub-2"], ["conn-unsub-1"])
    for name in ("conn-unsub-1", "conn-unsub-2"):
        server.post("/message", {"user": "x", "channel": name, "message": {}})
    assert [item["channel"] for item in receive("conn-unsub", conn_id)] == ["conn-unsub-2"]


@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
def test_an_unknown_or_missing_connection_is_refused(server: Any, path: str) -> None:
    """With the error text of 0.7.1."""
    some = {"channels": ["conn-nowhere"]}
    assert refused(server, path, some | {"conn_id": str(uuid4())}) == {"conn_id": ["Unknown connection"]}
    assert refused(server, path, some) == {"conn_id": ["Field may not be null."]}


def test_a_connection_has_a_bounded_number_of_channels(start_server: Any) -> None:
    """In one call or several; a refused call joins nothing."""
    server = start_server("--max-channels-per-connection", "3")
    conn_id = server.connect("conn-max", "a", "b")
    asked = {"username": "conn-max", "conn_id": conn_id, "channels": ["c", "d"]}
    assert list(refused(server, "/subscribe", asked)) == ["channels"]
    assert list(refused(server, "/connect", asked)) == ["channels"]
    assert list(refused(server, "/connect", {"username": "x", "channels": list("abcd")})) == ["channels"]
    assert sorted(server.post("/info")["channels"]) == ["a", "b"]
    assert server.post("/subscribe", {"conn_id": conn_id, "channels": ["a", "b", "c"]})["channels"] == [
        *"abc"
    ]


@pytest.mark.parametrize("how", ["get", "query", "body"])
def test_disconnecting_ends_a_connection_at_once(server: Any, receive: Receive, how: str) -> None:
    """The user has left, /info no longer has it and its id is unknown; the second call finds nothing to end."""
    name, user = f"conn-end-{how}", f"conn-leaver-{how}"
    staying = server.connect("conn-stayer", name, channel_configs={name: {"notify_presence": True}})
    conn_id = server.connect(user, name)
    url = server.url + "/disconnect"
    ends: dict[str, Callable[[], httpx.Response]] = {
        "get": lambda: http.get(url, params={"conn_id": conn_id}),
        "query": lambda: http.post(url, params={"conn_id": conn_id}),
        "body": lambda: http.post(url, json={"conn_id": conn_id}),
    }
    assert ends[how]().json() is True
    assert channel(server, name)["users"] == ["conn-stayer"]
    assert http.get(server.url + "/listen", params={"conn_id": conn_id}).status_code == 401
    actions = [item["message"]["action"] for item in receive("conn-stayer", staying)]
    assert actions == ["joined", "parted"]
    assert ends[how]().json() is False


@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
def test_an_unknown_connection_is_reported_with_other_faults(server: Any, path: str) -> None:
    """Or a missing one; for a known one only the others are."""
    bad = {"channels": [""]}
    channels = {"channels": {"0": ["Length must be between 1 and 256."]}}
    unknown = {"conn_id": ["Unknown connection"]}
    assert refused(server, path, bad | {"conn_id": "conn-nobody"}) == channels | unknown
    assert refused(server, f"{path}?conn_id=conn-nobody", bad) == channels | unknown
    assert refused(server, path, bad) == channels | {"conn_id": ["Field may not be null."]}
    assert refused(server, path, bad | {"conn_id": server.connect("conn-both")}) == channels


def test_disconnect_without_a_conn_id_is_refused(server: Any) -> None:
    """Without a conn_id there is no connection to answer for."""
    answer = http.post(server.url + "/disconnect")
    assert (answer.status_code, answer.json()["faults"]) == (422, {"conn_id": ["Field may not be null."]})
    assert http.get(server.url + "/disconnect", params={"conn_id": "a b"}).json() is False


def test_presence_is_announced_once_per_user(server: Any, receive: Receive) -> None:
    """For the first and the last connection of a user, to the others, with the public state."""
    config = {"conn-presence": {"notify_presence": True}}
    watcher = server.connect("conn-watcher", "conn-presence", channel_configs=config)
    more = {"user_state": {"a": 1, "b": 2}, "state_public_keys": ["a"]}
    tabs = [server.connect("conn-guest", "conn-presence", **more) for _ in range(2)]
    for tab in tabs:
        assert server.post("/disconnect", {"conn_id": tab}) is True
    joined, parted = receive("conn-watcher", watcher)
    assert {joined["type"], parted["type"]} == {"presence"}
    assert (joined["user"], joined["state"], joined["users"]) == ("conn-guest", {"a": 1}, [])
    assert (parted["message"], parted["state"]) == ({"action": "parted"}, None)


def test_presence_has_user_lists_where_asked_for(server: Any, receive: Receive) -> None:
    """Where the channel asks for it: all members and their public states."""
    config = {"notify_presence": True, "broadcast_presence_with_user_lists": True}
    one = server.connect("conn-list-1", "conn-lists", channel_configs={"conn-lists": config})
    server.connect("conn-list-2", "conn-lists", user_state={"a": 1}, state_public_keys=["a"])
    (joined,) = receive("conn-list-1", one)
    reply = {each["user"]: each["state"] for each in joined["users"]}
    assert reply == {"conn-list-1": {}, "conn-list-2": {"a": 1}}
