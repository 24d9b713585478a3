"""Messages are edited and deleted."""

from typing import Any
from uuid import uuid4

import pytest
from tests.api.messages import Receive, history, keep, send
from tests.conftest import CLUSTER

pytestmark = pytest.mark.nodes(1, CLUSTER)


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
