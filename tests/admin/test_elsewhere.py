"""What any node has, every node shows: real nodes on one Redis."""

import json
from itertools import islice
from typing import Any

import pytest
from tests.admin_pages import data, rows
from tests.http_client import http
from tests.waiting import eventually

pytestmark = pytest.mark.nodes(3)


@pytest.fixture(autouse=True)
def all_are_listed(server: Any) -> None:
    """Each node is listed, and so asked, from its first heartbeat on."""
    node = server.any
    eventually(lambda: data(node, "nodes")["total"] == len(server.nodes), "a node is missing")


def test_a_connection_is_shown_at_every_node(server: Any) -> None:
    """With the node that it is at; it can be disconnected from any, and how it ended is shown at each, with who did it."""
    home, *others = server.nodes
    conn_id = home.connect("elsewhere-ann", "elsewhere-a")
    labels = {data(node, "connection", name=conn_id)["node"] for node in others}
    assert len(labels) == 1
    assert data(home, "connection", name=conn_id)["user"] == "elsewhere-ann"
    ended = http.post(
        f"{others[0].url}/admin/do/disconnect", json={"conn_id": conn_id}, auth=("admin", home.admin_secret)
    )
    assert ended.status_code == 200, ended.text
    for node in server.nodes:
        found = data(node, "connection", name=conn_id)
        assert found["state"] == "closed"
        endings = [(ending["reason"], ending["final"]) for ending in found["endings"]]
        assert endings == [("disconnected by an admin (admin)", True)]


def test_the_connections_of_a_user_are_those_of_all_nodes(server: Any) -> None:
    ids = {node.connect("elsewhere-bob") for node in server.nodes}
    for node in server.nodes:
        found = data(node, "user", name="elsewhere-bob")
        assert found["connections"] == len(ids)
        assert {row["id"] for row in found["listed_connections"]} == ids


def test_the_endings_of_a_user_are_those_of_all_nodes(server: Any) -> None:
    """Newest first."""
    ids = [node.connect("elsewhere-out") for node in server.nodes]
    for conn_id in ids:
        server.post("/disconnect", {"conn_id": conn_id})
    for node in server.nodes:
        found = data(node, "user", name="elsewhere-out")["endings"]
        assert [ending["conn_id"] for ending in found] == ids[::-1]


def test_the_connections_in_a_channel_are_those_of_all_nodes(server: Any) -> None:
    ids = {node.connect("elsewhere-may", "elsewhere-all") for node in server.nodes}
    for node in server.nodes:
        found = data(node, "channel", name="elsewhere-all")
        assert found["connections"] == len(ids)
        assert {row["id"] for row in found["listed_connections"]} == ids


def test_a_connection_that_no_node_knows_is_not_found(server: Any) -> None:
    answer = data(server.any, "connection", name="elsewhere-nobody")
    assert answer["code"] == "not_found", answer


def test_the_table_of_connections_is_that_of_all_nodes(server: Any) -> None:
    """Whichever node is asked: searched, ordered, and counted once."""
    ids = [node.connect(f"elsewhere-t{number}") for number, node in enumerate(server.nodes)]
    for node in server.nodes:
        found = data(node, "connections", search="elsewhere-t", sort="user", descending="true")
        assert [row["id"] for row in found["rows"]] == ids[::-1]
        assert (found["found"], found["page"], found["pages"]) == (len(ids), 0, 1)
        assert found["total"] >= len(ids)


def test_the_order_of_the_table_is_the_same_at_every_node(server: Any) -> None:
    """Also where the rows have the same value, so that no page repeats what another one has."""
    for number in range(6):
        server.nodes[number % len(server.nodes)].connect(f"elsewhere-o{number}")
    answers = [data(node, "connections", search="elsewhere-o", sort="state") for node in server.nodes]
    orders = [[row["user"] for row in answer["rows"]] for answer in answers]
    assert len(orders[0]) == 6
    assert orders.count(orders[0]) == len(orders)
    assert [answer["missing"] for answer in answers] == [[]] * len(answers)


def test_nodes_are_shown_in_the_same_order(server: Any) -> None:
    """Whichever of them has sent its heartbeat last: the one that answers, and the others by name."""
    url, auth = f"{server.any.url}/admin/live", ("admin", server.admin_secret)
    with http.stream("GET", url, auth=auth) as live:
        events = (line.removeprefix("data: ") for line in live.iter_lines() if line.startswith("data: "))
        for event in islice(events, 3):
            own, *others = json.loads(event)["nodes"]
            labels = [node["label"] for node in others]
            assert own["is_here"]
            assert labels == sorted(labels)


def test_a_connection_shows_its_last_events(server: Any) -> None:
    """They are read from the log that the nodes share; what the pages cannot count there is no 0."""
    home = server.any
    conn_id = home.connect("elsewhere-kim", "elsewhere-k", "elsewhere-trimmed")
    server.post("/channel_config", {"elsewhere-trimmed": {"log_events": 2}})
    message = {"user": "zoe", "message": 1}
    server.post("/message", [message | {"channel": "elsewhere-trimmed"}] * 5)
    server.post("/message", [message | {"channel": "elsewhere-k", "exclude_users": ["elsewhere-kim"]}])
    server.post("/message", [message | {"channel": "elsewhere-k"}, message | {"pm_users": ["elsewhere-kim"]}])
    newest = [None, "elsewhere-k", "elsewhere-trimmed"]

    def shown() -> list[Any]:
        return [event["channel"] for event in data(server.any, "connection", name=conn_id)["events"]]

    eventually(lambda: shown()[:3] == newest, "an event is missing")
    assert len(shown()) <= 4
    assert data(server.any, "channel", name="elsewhere-k")["log"] is None
    assert data(server.any, "user", name="elsewhere-kim")["private_log"] is None
    assert [row["log"] for row in rows(server, "channels", search="elsewhere-k")] == [None]
