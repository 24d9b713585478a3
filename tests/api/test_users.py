"""States of users: values, visibility, and the recipients of their changes."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import CLUSTER

pytestmark = pytest.mark.nodes(1, CLUSTER)

Receive = Callable[[str, str], list[dict[str, Any]]]
ANNOUNCED = {"notify_state": True}


def test_the_answer_names_the_changed_keys(server: Any) -> None:
    """The whole state, the changes sorted by key, and the public keys."""
    server.connect("state-ann", user_state={"b": 1, "same": "x"})
    change = {"user": "state-ann", "user_state": {"c": None, "b": 2, "a": 1.5, "same": "x"}}
    answer = server.post("/user_state", change | {"state_public_keys": ["b"]})
    assert answer["user_state"] == {"a": 1.5, "b": 2, "same": "x"}
    assert answer["changed_state"] == [{"key": "a", "value": 1.5}, {"key": "b", "value": 2}]
    assert answer["public_keys"] == ["b"]


def test_a_null_removes_a_key(server: Any) -> None:
    """A null for an unknown key is not stored."""
    server.connect("state-null", user_state={"a": 1, "b": None})
    answer = server.post("/user_state", {"user": "state-null", "user_state": {"a": None, "c": None}})
    assert answer["user_state"] == {}
    assert answer["changed_state"] == [{"key": "a", "value": None}]


def test_public_keys_are_kept(server: Any) -> None:
    """Unless a call names them; neither null nor a connect without them wipes them."""
    server.connect("state-keys", user_state={"a": 1, "b": 2}, state_public_keys=["a"])
    for more in ({}, {"state_public_keys": None}):
        assert server.post("/user_state", {"user": "state-keys"} | more)["public_keys"] == ["a"]
        again = server.post("/connect", {"username": "state-keys"} | more)
        assert again["public_state"] == {"a": 1}
    emptied = server.post("/user_state", {"user": "state-keys", "state_public_keys": []})
    assert emptied["public_keys"] == []


def test_fresh_state_is_for_new_users(server: Any) -> None:
    """A known user keeps its state."""
    fresh = {"fresh_user_state": {"a": 1, "b": 1}, "user_state": {"b": 2}}
    assert server.post("/connect", {"username": "state-fresh"} | fresh)["state"] == {"a": 1, "b": 2}
    server.post("/user_state", {"user": "state-fresh", "user_state": {"a": 9}})
    assert server.post("/connect", {"username": "state-fresh"} | fresh)["state"] == {"a": 9, "b": 2}


def test_true_and_one_are_different(server: Any) -> None:
    """1 and true are different in JSON."""
    server.connect("state-types", user_state={"a": 1})
    answer = server.post("/user_state", {"user": "state-types", "user_state": {"a": True}})
    assert answer["changed_state"] == [{"key": "a", "value": True}]


def test_an_unknown_user_is_refused(server: Any) -> None:
    """By both generations' calls."""
    for path, more in (("/user_state", {}), ("/user_status", {"status": 1})):
        answer = server.request("POST", path, {"user": "state-nobody"} | more)
        assert (answer.status_code, answer.json()["faults"]) == (422, {"user": ["Unknown user"]})


@pytest.mark.parametrize("body", [{}, {"user": "state-revoked", "jti": "1"}])
def test_a_revocation_names_either_a_user_or_a_token(server: Any, body: Any) -> None:
    """One of them."""
    answer = server.request("POST", "/revoke", body)
    assert answer.status_code == 422
    assert answer.json()["faults"] == {"user": ["Name either a user, or a token by its jti."]}
    for name in ("user", "jti"):
        assert server.post("/revoke", {name: "state-revoked"}) == {"ended": 0}


def test_values_are_plain(server: Any) -> None:
    """Objects and lists are refused by key."""
    server.connect("state-plain")
    answer = server.request("POST", "/user_state", {"user": "state-plain", "user_state": {"a": {}, "b": 1}})
    assert answer.status_code == 422
    assert list(answer.json()["user_state"]) == ["a"]
    assert list(answer.json()["user_state"]["a"]) == ["value"]


def test_a_state_has_a_bounded_number_of_keys(server: Any) -> None:
    """256, existing keys included; a refused call changes nothing."""
    full = {f"key-{number}": 0 for number in range(256)}
    assert len(server.post("/connect", {"username": "state-full", "user_state": full})["state"]) == 256
    more = {"user": "state-full", "user_state": {"key-0": 1, "one more": 1}}
    answer = server.request("POST", "/user_state", more)
    assert (answer.status_code, list(answer.json()["faults"])) == (422, ["user_state"])
    assert server.post("/user_state", {"user": "state-full"})["user_state"] == full
    swapped = {"user": "state-full", "user_state": {"key-0": None, "one more": 1}}
    assert len(server.post("/user_state", swapped)["user_state"]) == 256
    too_much = {"username": "state-over", "user_state": full | {"one more": 1}}
    assert server.request("POST", "/connect", too_much).status_code == 422


def test_public_keys_are_bounded(server: Any) -> None:
    """As many as a state has keys."""
    server.connect("state-many")
    keys = [f"key-{number}" for number in range(257)]
    answer = server.request("POST", "/user_state", {"user": "state-many", "state_public_keys": keys})
    assert answer.json()["faults"] == {"state_public_keys": ["Longer than maximum length 256."]}
    fitting = server.post("/user_state", {"user": "state-many", "state_public_keys": keys[1:]})
    assert fitting["public_keys"] == keys[1:]


def test_a_public_change_is_delivered(server: Any, receive: Receive) -> None:
    """Where the channel has notify_state, by the user too, and only the public part of it."""
    config = {"state-announced": ANNOUNCED}
    watcher = server.connect("state-watcher", "state-announced", "state-quiet", channel_configs=config)
    server.connect("state-changer", "state-announced", "state-quiet", state_public_keys=["a"])
    change = {"user": "state-changer", "user_state": {"a": 1, "secret": 1}}
    server.post("/user_state", change)
    (received,) = receive("state-watcher", watcher)
    assert (received["type"], received["channel"], received["user"]) == (
        "user_state_change",
        "state-announced",
        "state-changer",
    )
    assert received["message"] == {"state": {"a": 1}, "changed": [{"key": "a", "value": 1}]}


def test_the_user_receives_its_own_change(server: Any, receive: Receive) -> None:
    """On every connection in the channel."""
    conn_id = server.connect("state-self", "state-self", channel_configs={"state-self": ANNOUNCED})
    server.post(
        "/user_state", {"user": "state-self", "user_state": {"a": 1}, "state_public_keys": ["a", "never"]}
    )
    assert [item["type"] for item in receive("state-self", conn_id)] == ["user_state_change"]


def test_private_or_unchanged_state_is_not_delivered(server: Any, receive: Receive) -> None:
    """No empty event is delivered."""
    config = {"state-silent": ANNOUNCED}
    conn_id = server.connect(
        "state-silent",
        "state-silent",
        channel_configs=config,
        user_state={"a": 1},
        state_public_keys=["a"],
    )
    server.post("/user_state", {"user": "state-silent", "user_state": {"a": 1, "b": 2}})
    assert receive("state-silent", conn_id) == []


def test_a_change_by_connect_is_delivered(server: Any, receive: Receive) -> None:
    """By a new connection of the user and by the same one again."""
    config = {"state-connect": ANNOUNCED}
    keys = {"state_public_keys": ["a"]}
    conn_id = server.connect("state-connect", "state-connect", channel_configs=config, **keys)
    server.connect("state-connect", user_state={"a": 1})
    server.connect("state-connect", conn_id=conn_id, user_state={"a": 2})
    changes = [item["message"]["changed"] for item in receive("state-connect", conn_id)]
    assert changes == [[{"key": "a", "value": 1}], [{"key": "a", "value": 2}]]


def test_the_status_of_the_seed_is_a_public_key(server: Any, receive: Receive) -> None:
    """Shown by /info in both forms, and announced where notify_state is on."""
    config = {"state-status": ANNOUNCED}
    conn_id = server.connect(
        "state-status", "state-status", channel_configs=config, user_state={"a": 1}, state_public_keys=["a"]
    )
    answer = server.post("/user_status", {"user": "state-status", "status": 4})
    assert (answer["status"], answer["public_keys"]) == (4, ["a", "status"])
    (received,) = receive("state-status", conn_id)
    assert received["message"]["changed"] == [{"key": "status", "value": 4}]
    reply = server.post("/info", {"channels": ["state-status"]})
    assert reply["channels"]["state-status"]["users"][0]["status"] == 4
    assert reply["users"][0]["state"]["status"] == 4


def test_a_status_must_be_a_number(server: Any) -> None:
    """And it is required."""
    server.connect("state-number")
    for payload in ({"user": "state-number"}, {"user": "state-number", "status": "away"}):
        answer = server.request("POST", "/user_status", payload)
        assert (answer.status_code, list(answer.json()["faults"])) == (422, ["status"])
