"""What servers of applications read with Pusher's SDKs: occupied channels, one of them, and its users."""

from typing import Any

import pytest
from tests.conftest import CLUSTER, SQLITE
from tests.pusher_calls import call, done

pytestmark = pytest.mark.nodes(1, 3, CLUSTER, SQLITE)

BOTH = "user_count,subscription_count"


def fill(server: Any, mark: str) -> None:
    """Let two users with three connections join a presence channel and another one, and one channel become empty again."""
    for user, number in (("ann", 1), ("ann", 2), ("bob", 3)):
        names = [f"pusher/presence-{mark}", f"pusher/{mark}-all"]
        server.connect(f"{mark}-{user}", *names, conn_id=f"{mark}-{number}")
    server.connect("cid", f"pusher/{mark}-left", f"{mark}-native", conn_id=f"{mark}-4")
    server.post("/unsubscribe", {"conn_id": f"{mark}-4", "channels": [f"pusher/{mark}-left"]})
    server.post("/channel_config", {f"pusher/{mark}-empty": {"store_history": True}})
    done(server, "POST", "/events", {"name": "a", "data": "", "channel": f"{mark}-sent"})


def test_occupied_channels_are_listed(server: Any) -> None:
    """By their names in Pusher; neither empty ones nor those of native programs."""
    fill(server, "prd1")
    assert done(server, "GET", "/channels", filter_by_prefix="prd1-") == {"channels": {"prd1-all": {}}}
    listed = done(server, "GET", "/channels")["channels"]
    assert {name for name in listed if "prd1" in name} == {"prd1-all", "presence-prd1"}
    assert all(attributes == {} for attributes in listed.values())
    assert done(server, "GET", "/channels", filter_by_prefix="prd1-x") == {"channels": {}}


def test_occupied_channels_have_counts(server: Any) -> None:
    """Users of presence channels, connections of all."""
    fill(server, "prd2")
    counted = done(server, "GET", "/channels", filter_by_prefix="presence-prd2", info=BOTH)
    assert counted == {"channels": {"presence-prd2": {"user_count": 2, "subscription_count": 3}}}
    counted = done(server, "GET", "/channels", filter_by_prefix="prd2", info="subscription_count")
    assert counted == {"channels": {"prd2-all": {"subscription_count": 3}}}


def test_one_channel_is_described(server: Any) -> None:
    """Whether it is known or not; with its counts if they are asked for."""
    fill(server, "prd3")
    assert done(server, "GET", "/channels/prd3-all") == {"occupied": True}
    for name in ("prd3-left", "prd3-empty", "prd3-sent", "prd3-unknown"):
        answer = done(server, "GET", f"/channels/{name}", info="subscription_count")
        assert answer == {"occupied": False, "subscription_count": 0}
    described = done(server, "GET", "/channels/presence-prd3", info=BOTH)
    assert described == {"occupied": True, "user_count": 2, "subscription_count": 3}
    described = done(server, "GET", "/channels/presence-prd3-unknown", info=BOTH)
    assert described == {"occupied": False, "user_count": 0, "subscription_count": 0}


def test_users_are_listed_once(server: Any) -> None:
    """However many connections each of them has."""
    fill(server, "prd4")
    users = done(server, "GET", "/channels/presence-prd4/users")["users"]
    assert sorted(each["id"] for each in users) == ["prd4-ann", "prd4-bob"]
    assert done(server, "GET", "/channels/presence-prd4-unknown/users") == {"users": []}


def test_a_long_list_is_whole(server: Any) -> None:
    """More users and channels than fit into one event loop turn."""
    for number in range(60):
        names = ["pusher/presence-prd5", f"pusher/prd5-{number:02}"]
        server.connect(f"prd5-{number:02}", *names, conn_id=f"prd5-{number}")
    listed = done(server, "GET", "/channels", filter_by_prefix="prd5-", info="subscription_count")
    assert listed == {"channels": {f"prd5-{number:02}": {"subscription_count": 1} for number in range(60)}}
    users = done(server, "GET", "/channels/presence-prd5/users")["users"]
    assert sorted(each["id"] for each in users) == [f"prd5-{number:02}" for number in range(60)]


def kept(server: Any, name: str) -> Any:
    return done(server, "GET", f"/channels/{name}", info="cache")["cache"]


@pytest.mark.parametrize("prefix", ["", "private-", "private-encrypted-", "presence-"])
def test_a_cache_channel_keeps_its_last_event(server: Any, prefix: str) -> None:
    """Half an hour, with nobody in it; other channels keep none."""
    name, other = f"{prefix}cache-prd8", f"{prefix}prd8-cache-"
    assert kept(server, name) is None
    server.post("/channel_config", {f"pusher/{other}": {"store_history": True}})
    for number in range(3):
        body = {"name": "a", "data": f'{{"n":  {number}}}', "channels": [name, other]}
        done(server, "POST", "/events", body)
    found = kept(server, name)
    assert (found["data"], 0 < found["ttl"] <= 1800) == ('{"n":  2}', True)
    batch = [{"name": "a", "data": data, "channel": name} for data in ("first", '"last"')]
    done(server, "POST", "/batch_events", {"batch": batch})
    assert kept(server, name)["data"] == '"last"'
    server.post("/message", {"user": "ann", "channel": f"pusher/{name}", "message": {"native": [1]}})
    assert kept(server, name)["data"] == '{"native":[1]}'
    assert kept(server, other) is None


def test_the_channel_of_a_user_is_in_no_list(server: Any) -> None:
    """Nor is it one whose name may be asked for."""
    server.connect("prd6", "pusher/#server-to-user-prd6")
    assert "#server-to-user-prd6" not in done(server, "GET", "/channels")["channels"]
    assert call(server, "GET", "/channels/#server-to-user-prd6").status_code == 400


@pytest.mark.parametrize("name", ["a@b,c;d=e_f.g-h", "prd7"])
def test_names_arrive_with_escapes_or_without(server: Any, name: str) -> None:
    """In paths and in queries."""
    server.connect("prd7", f"pusher/{name}", conn_id=f"prd7-{len(name)}")
    assert done(server, "GET", f"/channels/{name}") == {"occupied": True}
    assert done(server, "GET", "/channels", filter_by_prefix=name) == {"channels": {name: {}}}


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/channels", {"info": "other"}, 400),
        ("/channels", {"info": "user_count"}, 400),
        ("/channels", {"info": "user_count", "filter_by_prefix": "private-"}, 400),
        ("/channels", {"info": "user_count", "filter_by_prefix": "presence"}, 400),
        ("/channels", {"info": "cache"}, 400),
        ("/channels/a", {"info": "user_count"}, 400),
        ("/channels/a", {"info": "subscription_count,,user_count"}, 400),
        ("/channels/a", {"info": "Subscription_count"}, 400),
        ("/channels/a", {"info": ",".join(["cache"] * 5)}, 400),
        ("/channels/a b", {}, 400),
        (f"/channels/{'x' * 201}", {}, 400),
        ("/channels/a/users", {}, 400),
        ("/channels/private-a/users", {}, 400),
        ("/channels/a b/users", {}, 400),
        ("/channels/", {}, 404),
        ("/channels/a/b", {}, 404),
        ("/channels/a/users/b", {}, 404),
        ("/other", {}, 404),
        ("", {}, 404),
        ("/events", {}, 404),
    ],
)
def test_an_unreadable_query_is_refused(server: Any, path: str, query: dict[str, str], status: int) -> None:
    """400 with the field, 404 for paths and methods that do not exist."""
    answer = call(server, "GET", path, **query)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == ("invalid" if status == 400 else "not_found")
    assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize("path", ["/channels", "/channels/a", "/channels/presence-a/users", "/events/x"])
def test_other_methods_do_not_exist(server: Any, path: str) -> None:
    """404, whatever they are."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert call(server, method, path, {}).status_code == 404
