"""A trace runs at all nodes, whichever is asked: real nodes on one Redis."""

import json
from typing import Any

import pytest
from tests.admin_pages import data
from tests.http_client import http
from tests.waiting import eventually

PATH = "/admin/trace.json"


def count(server: Any) -> int:
    """Return how many nodes a node can ask."""
    return int(data(server, "nodes")["total"])


@pytest.mark.nodes(3)
class TestThreeNodes:
    @pytest.fixture(autouse=True)
    def all_are_listed(self, server: Any) -> None:
        """Each node is listed, and so asked, from its first heartbeat on."""
        eventually(lambda: count(server) == len(server.nodes), "a node is missing")

    def test_an_event_is_one_note_with_the_connections_of_all_nodes(self, server: Any) -> None:
        """Started at one node and read at the others; no node says that the channel has no members there."""
        home, *others = server.nodes
        ids = {node.connect(f"traces-{at}", "traces-news") for at, node in enumerate(server.nodes)}
        home.post(PATH, {"channel": "traces-news"})
        others[0].post("/message", [{"channel": "traces-news", "user": "zoe", "message": 1}])

        def seen(node: Any) -> list[Any]:
            document = node.request("GET", f"{PATH}?channel=traces-news").json()
            assert [each["failure"] for each in document["nodes"]] == [""] * len(server.nodes)
            assert all(each["seconds_left"] for each in document["nodes"])
            return [note for note in document["notes"] if len(note["nodes"]) == len(server.nodes)]

        for node in server.nodes:
            eventually(lambda node=node: len(seen(node)) == 1, "a node has not noted it")
            [note] = seen(node)
            assert {each["conn_id"] for each in note["fact"]["outcomes"]} == ids
            assert note["fact"]["counts"] == {"waits in the log: it never had a stream": len(ids)}
        others[1].post(PATH, {"channel": "traces-news", "minutes": "0"})
        for node in server.nodes:
            assert node.request("GET", f"{PATH}?channel=traces-news").json()["seconds_left"] == 0

    def test_a_reader_continues_at_any_node(self, server: Any) -> None:
        """`next` has the numbers of all nodes; a trace is listed once."""
        home, *others = server.nodes
        for at, node in enumerate(server.nodes):
            node.connect("traces-ann", conn_id=f"traces-a{at}")
        begun = home.post(PATH, {"user": "traces-ann"})
        assert set(json.loads(begun["next"]).values()) == {0}
        for at, node in enumerate(server.nodes):
            http.get(f"{node.url}/listen?conn_id=traces-a{at}&since=other-1")

        def notes(node: Any, after: str) -> Any:
            return node.request("GET", PATH, params={"user": "traces-ann", "after": after}).json()

        def attached() -> set[str]:
            found = notes(home, "0")["notes"]
            return {each["fact"]["conn_id"] for each in found if each["fact"]["what"] == "attached"}

        eventually(lambda: len(attached()) == len(server.nodes), "a node has not noted it")
        end = notes(others[0], begun["next"])["next"]
        assert notes(others[1], end)["notes"] == []
        listed = home.request("GET", PATH).json()["traces"]
        assert [each["name"] for each in listed].count("traces-ann") == 1
        home.post(PATH, {"user": "traces-ann", "minutes": "0"})


@pytest.mark.parametrize("after", ["x", '{"a":"b"}', '{"a":-1}', f'{{"a":{2**70}}}', "[]", "{" * 20_000])
def test_a_cursor_that_is_none_is_refused(server: Any, after: str) -> None:
    answer = server.request("GET", PATH, params={"user": "traces-ann", "after": after[:9000]})
    assert answer.status_code == 400, answer.text


def test_one_node_has_a_number_as_its_cursor(server: Any) -> None:
    """As programs use it."""
    assert server.request("GET", f"{PATH}?user=traces-nobody&after=3").json()["next"] == "3"
