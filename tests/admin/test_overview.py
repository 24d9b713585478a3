"""The figures of a service of several nodes, on real ones: any node gives the sums, and the figures of each."""

import os
import signal
import time
from itertools import product
from typing import Any

import pytest
from tests.admin_pages import data, watched
from tests.http_client import http
from tests.waiting import eventually

from channelstream.admin.overview import SUMS

pytestmark = pytest.mark.nodes(3)


def test_each_node_shows_the_sums_of_all(server: Any) -> None:
    """Whichever node answers, a user of two nodes is one user, and each node is listed with its own figures."""
    for node in server.nodes:
        node.connect("overview-ann", "overview-a")
    event: dict[str, Any] = {}

    def has_all() -> bool:
        event.update(watched(server))
        nodes = [each["figures"] for each in event.get("nodes", ()) if each["figures"]]
        counted = [each for each in nodes if each["connections"] >= 1 and each["users"] >= 1]
        return len(counted) == len(server.nodes)

    eventually(has_all, "a node is missing")
    rows = [row["figures"] for row in event["nodes"]]
    assert [row["failure"] for row in event["nodes"]] == [""] * len(rows)
    assert [row["is_here"] for row in event["nodes"]] == [True] + [False] * (len(rows) - 1)
    assert {name: event["figures"][name] for name in SUMS} == {
        name: sum(row[name] for row in rows) for name in SUMS
    }
    assert event["failure"] == ""


def test_users_and_channels_are_those_of_the_tables(server: Any) -> None:
    """Their numbers are the totals that the tables show, at each node."""
    server.connect("overview-bob", "overview-b", "overview-c")
    for node, name in product(server.nodes, ("users", "channels")):

        def is_total(node: Any = node, name: str = name) -> bool:
            return bool(watched(node).get("figures", {}).get(name) == data(node, name)["total"] > 0)

        eventually(is_total, f"{name} differ")


def test_the_document_counts_all_nodes(server: Any) -> None:
    """A monitor reads the same from each of them: a user with connections at several is one."""
    before = server.any.request("GET", "/admin/admin.json").json()
    for node in server.nodes:
        node.connect("document-ann", "document")
        server.post("/message", {"channel": "document", "user": "document-ann", "message": 1})
    for node in server.nodes:

        def has_all(node: Any = node) -> bool:
            found = node.request("GET", "/admin/admin.json").json()
            more = {
                name: found[name] - before[name] for name in found if name.startswith(("total_", "unique_"))
            }
            return more == {
                "unique_user_count": 1,
                "total_connections": len(server.nodes),
                "total_channels": 1,
                "total_messages": sum(range(len(server.nodes) + 1)),
                "total_unique_messages": len(server.nodes),
            }

        eventually(has_all, "a node counts otherwise")


def refused_row(server: Any, count: int, **what: str) -> dict[str, Any]:
    """Return the row of these values, once it counts so many requests: pages share a reading for a while."""
    node, found = server.any, list[dict[str, Any]]()

    def is_shown() -> bool:
        found[:] = [row for row in data(node, "refused")["rows"] if what.items() <= row.items()]
        return sum(row["count"] for row in found) >= count

    eventually(is_shown, "they are not shown")
    [row] = found
    return row


def test_refused_requests_of_all_nodes_are_shown(server: Any) -> None:
    """By path, status, reason and caller, at each node; with no word of what was sent."""
    for node in server.nodes:
        http.post(f"{node.url}/message", json=[{"secret": "of the body"}])
    row = refused_row(server, len(server.nodes), route="/message", code="forbidden")
    assert (row["method"], row["status"], row["address"]) == ("POST", 403, "127.0.0.1")
    assert "of the body" not in str(row)


def test_requests_for_paths_that_do_not_exist_are_shown(server: Any) -> None:
    """As one row for each caller, whatever their paths are: they are not shown."""
    for number in range(3):
        assert http.post(f"{server.any.url}/mesage/{number}", json=[]).status_code == 404
    row = refused_row(server, 3, method="POST", route="")
    assert (row["status"], row["code"], row["address"]) == (404, "not_found", "127.0.0.1")
    assert "mesage" not in str(row)


def test_the_slow_turns_of_all_nodes_are_shown(server: Any) -> None:
    """Each with its node, and counted together, at the node that is asked; a pause is one that needs no load."""
    found: dict[str, Any] = {}

    def all_have_paused() -> bool:
        for node in server.nodes:
            os.kill(node.process.pid, signal.SIGSTOP)
        time.sleep(0.8)  # real time: it is what the nodes must notice.
        for node in server.nodes:
            os.kill(node.process.pid, signal.SIGCONT)
        found.update(data(server, "slow_turns"))
        return len({row["node"] for row in found["rows"]}) == len(server.nodes)

    eventually(all_have_paused, "a node is missing")
    assert found["pauses"] + found["slow_turns"] >= len(found["rows"]) >= len(server.nodes)
    moments = [row["at"] for row in found["rows"]]
    assert moments == sorted(moments, reverse=True)
