"""The end of all connections of a user who has signed in."""

from typing import Any

import pytest
from tests.conftest import CLUSTER
from tests.pusher_calls import call, done
from tests.waiting import eventually

pytestmark = pytest.mark.nodes(1, 3, CLUSTER)


def connections(server: Any, channel: str) -> Any:
    channels = server.post("/info", {"info": {"channels": [channel], "include_connections": True}})[
        "channels"
    ]
    return channels.get(channel, {}).get("connections", [])


@pytest.mark.parametrize("user", ["pus-ann", "pus \u00e4,7", "pus/a//b?c", "pus\n/terminate_connections"])
def test_the_connections_of_a_user_end(server: Any, user: str) -> None:
    """Those of the internal channel in which its lines are, at all nodes; those of other users stay."""
    mark = user.encode().hex()
    channel, other = f"pusher/#signed-in-{user}", f"pusher/#signed-in-{user}-2"
    for number in range(3):
        server.connect(f"{user}-{number}", channel, conn_id=f"{mark}-{number}")
    server.connect(user, other, conn_id=f"{mark}-3")
    assert done(server, "POST", f"/users/{user}/terminate_connections", {}) == {}
    eventually(lambda: connections(server, channel) == [], "the connections of the user did not end")
    assert connections(server, other) == [f"{mark}-3"]


def test_an_unknown_user_has_no_connections(server: Any) -> None:
    """With a body or without one; users who are only members of presence channels are not touched."""
    server.connect("pus-bob", "pusher/presence-pus", conn_id="pus-bob")
    for body in ({}, None, b" "):
        assert done(server, "POST", "/users/pus-bob/terminate_connections", body) == {}
    assert connections(server, "pusher/presence-pus") == ["pus-bob"]


@pytest.mark.parametrize(("body", "code"), [(b"{", "malformed"), ([], "invalid"), ("text", "invalid")])
def test_a_body_is_an_object(server: Any, body: Any, code: str) -> None:
    """Or empty."""
    answer = call(server, "POST", "/users/ann/terminate_connections", body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
