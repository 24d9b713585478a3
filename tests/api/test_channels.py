"""What /info returns in each of its forms, and what /channel_config changes."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import CLUSTER
from tests.http_client import http

pytestmark = pytest.mark.nodes(1, CLUSTER)

Receive = Callable[[str, str], list[dict[str, Any]]]

DEFAULTS = {
    "notify_presence": False,
    "store_history": False,
    "history_size": 10,
    "broadcast_presence_with_user_lists": False,
    "notify_state": False,
    "store_frames": True,
}


def configure(server: Any, body: Any) -> Any:
    return server.post("/channel_config", body)["channels"]


def known(settings: dict[str, Any]) -> dict[str, Any]:
    """The six settings of 0.7.1."""
    return {key: settings[key] for key in DEFAULTS}


def test_info_without_a_body_describes_everything(start_server: Any) -> None:
    """By GET and by POST, without a body, with {} and with an empty `info`."""
    server = start_server()
    server.connect("info-all", "info-a", "info-b")
    answers = [
        server.request("GET", "/info"),
        http.post(server.url + "/info", headers=server.sign("/info")),
        *(server.request("POST", "/info", body) for body in ({}, {"info": {}}, {"info": {"channels": None}})),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert all(answer.json() == answers[0].json() for answer in answers)
    reply = answers[0].json()
    assert sorted(reply["channels"]) == ["info-a", "info-b"]
    assert reply["users"] == [{"user": "info-all", "state": {}}]
    assert "unique_users" not in reply


def test_a_channel_has_the_keys_of_0_7(server: Any) -> None:
    """Names of users, sorted; counts; settings; history."""
    server.connect("info-zoe", "info-keys")
    server.connect("info-ann", "info-keys")
    server.connect("info-ann", "info-keys")
    reply = server.post("/info", {"info": {"channels": ["info-keys", "info-unknown"]}})
    assert list(reply["channels"]) == ["info-keys"]
    one = reply["channels"]["info-keys"]
    assert set(one) >= {
        *("uuid", "name", "long_name", "settings", "history", "last_active"),
        *("total_connections", "total_users", "users"),
    }
    assert (one["users"], one["total_users"], one["total_connections"]) == (["info-ann", "info-zoe"], 2, 3)
    assert known(one["settings"]) == DEFAULTS
    assert [each["user"] for each in reply["users"]] == ["info-ann", "info-zoe"]


def test_the_0_2_form_lists_users_as_objects(server: Any) -> None:
    """Selected by `channels` at the top level; `info` wins where both are given."""
    conn_id = server.connect("info-old", "info-old")
    reply = server.post("/info", {"channels": ["info-old"]})
    user = {"user": "info-old", "status": 0, "connections": [conn_id]}
    assert (reply["channels"]["info-old"]["users"], reply["unique_users"]) == ([user], 1)
    assert reply["users"] == [{"user": "info-old", "state": {}}]
    both = server.post("/info", {"channels": ["info-old"], "info": {"channels": ["info-old"]}})
    assert both["channels"]["info-old"]["users"] == ["info-old"]
    assert {"info-old"} <= set(server.post("/info", {"channels": []})["channels"])


def test_options_choose_what_is_shown(server: Any) -> None:
    """History, users, connections, public states, channels."""
    state = {"user_state": {"a": 1, "b": 2}, "state_public_keys": ["a"]}
    conn_id = server.connect("info-opt", "info-opt", "info-opt-2", **state)
    names = ["info-opt", "info-opt-2"]
    options = {"channels": names, "exclude_channels": ["info-opt-2"], "return_public_state": True}
    reply = server.post("/info", {"info": options | {"include_connections": True}})
    assert list(reply["channels"]) == ["info-opt"]
    assert reply["channels"]["info-opt"]["connections"] == [conn_id]
    assert reply["users"] == [{"user": "info-opt", "state": {"a": 1}}]
    bare = server.post("/info", {"info": options | {"include_users": False, "include_history": False}})
    assert (bare["users"], bare["channels"]["info-opt"]["users"]) == ([], [])
    assert bare["channels"]["info-opt"]["total_users"] == 1
    assert server.post("/info", {"info": {"channels": []}})["channels"] == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"info": 1}, "info"),
        ({"channels": "x"}, "channels"),
        ({"info": {"channels": [1]}}, "info"),
        ([], "_schema"),
    ],
)
def test_wrong_info_requests_are_reported_by_field(server: Any, body: Any, field: str) -> None:
    """By field."""
    answer = server.request("POST", "/info", body)
    assert (answer.status_code, list(answer.json()["faults"])) == (422, [field])


def test_settings_not_named_keep_their_values(server: Any) -> None:
    """A channel is created with the defaults, and keeps settings that a later call does not name."""
    (made,) = configure(server, {"config-part": {"notify_state": True}}).values()
    assert known(made["settings"]) == DEFAULTS | {"notify_state": True}
    (changed,) = configure(server, {"config-part": {"history_size": 3, "store_history": True}}).values()
    expected = DEFAULTS | {"notify_state": True, "history_size": 3, "store_history": True}
    assert known(changed["settings"]) == expected
    assert known(configure(server, {"config-part": {}})["config-part"]["settings"]) == expected
    assert (changed["uuid"], changed["users"], changed["history"]) == (made["uuid"], [], [])


def test_an_answer_about_settings_has_neither_messages_nor_users(server: Any) -> None:
    """However many a channel has."""
    server.connect("config-brief", "config-brief")
    configure(server, {"config-brief": {"store_history": True}})
    server.post("/message", {"user": "u", "channel": "config-brief", "message": 1})
    described = configure(server, {"config-brief": {}})["config-brief"]
    assert (described["history"], described["users"], described["total_users"]) == ([], [], 1)


def test_the_list_of_pairs_of_0_2_equals_an_object(server: Any) -> None:
    """The pairs mean the same as an object."""
    reply = configure(server, [["config-pair-1", {"notify_presence": True}], ["config-pair-2", {}]])
    assert {name: one["settings"]["notify_presence"] for name, one in reply.items()} == {
        "config-pair-1": True,
        "config-pair-2": False,
    }
    assert configure(server, []) == configure(server, {}) == {}


def test_the_size_of_a_history_is_bounded_by_the_server(server: Any) -> None:
    """The bound of the server, whatever the channel names."""
    reply = configure(server, {"config-bound": {"history_size": 100_000}})
    assert reply["config-bound"]["settings"]["history_size"] == 1000


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"history_size": -1}, "history_size"),
        ({"history_size": "many"}, "history_size"),
        ({"notify_presence": 7}, "notify_presence"),
    ],
)
def test_wrong_settings_change_nothing(server: Any, settings: dict[str, Any], field: str) -> None:
    """The fault is reported by setting, and no other channel of the request is made."""
    body = {"config-good": {"notify_state": True}, "config-wrong": settings}
    answer = server.request("POST", "/channel_config", body)
    reply = answer.json()
    assert (answer.status_code, list(reply["faults"]), next(iter(reply))) == (422, ["config-wrong"], field)
    assert reply["faults"]["config-wrong"]["value"] == {field: reply[field]}
    assert f"Correct config-wrong.{field} and" in reply["error"]
    names = ["config-good", "config-wrong"]
    assert server.post("/info", {"info": {"channels": names}})["channels"] == {}


def test_presence_starts_when_it_is_configured(server: Any, receive: Receive) -> None:
    """A changed setting counts from the next join on; a 0.7 connection receives nothing before."""
    conn_id = server.connect("config-watch", "config-live")
    server.connect("config-before", "config-live")
    configure(server, {"config-live": {"notify_presence": True}})
    server.connect("config-after", "config-live")
    assert [item["user"] for item in receive("config-watch", conn_id)] == ["config-after"]
