"""What a real server shows its admin."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.admin_pages import data
from tests.http_client import http
from tests.waiting import PATIENCE_S, eventually
from websockets.sync.client import connect


@pytest.fixture
def admin(server: Any) -> Iterator[httpx.Client]:
    """A script with the admin's password."""
    with httpx.Client(
        verify=False, timeout=PATIENCE_S, base_url=f"{server.url}/admin", auth=("admin", server.admin_secret)
    ) as client:
        yield client


def described(admin: httpx.Client, kind: str, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = admin.get(f"/data/{kind}", params={"name": name}).raise_for_status().json()
    return answer


def until(read: Callable[[], dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Read until the answer is as it should be, and return it."""
    answers: list[dict[str, Any]] = []

    def is_so() -> bool:
        answers[:] = [read()]
        return holds(answers[0])

    eventually(is_so, "the panel does not show it")
    return answers[0]


def test_a_channel_shows_its_settings_users_and_messages(server: Any, admin: httpx.Client) -> None:
    """Settings, users with the number of their connections, and the kept messages, the newest first."""
    server.connect("ann", "panel/<b>", channel_configs={"panel/<b>": {"store_history": True}})
    server.connect("ann", "panel/<b>")
    server.post(
        "/message", [{"channel": "panel/<b>", "user": "bob", "message": n} for n in ("old", "x" * 900)]
    )
    details = described(admin, "channel", "panel/<b>")
    assert details["listed_users"] == [{"name": "ann", "connections": 2}]
    assert (details["users"], details["connections"], details["settings"]["store_history"]) == (1, 2, True)
    assert [message["json"] for message in details["messages"]] == ['"' + "x" * 399 + "…", '"old"']


def test_a_user_shows_its_state_and_connections(server: Any, admin: httpx.Client) -> None:
    """State, what of it is public, connections and channels."""
    conn_id = server.connect("panel-uma", "panel-a", user_state={"k": "v", "n": 1}, state_public_keys=["k"])
    details = described(admin, "user", "panel-uma")
    assert (details["state"], details["public_keys"]) == ({"k": "v", "n": 1}, ["k"])
    assert details["listed_channels"] == ["panel-a"]
    [row] = details["listed_connections"]
    assert (row["id"], row["state"], row["transport"]) == (conn_id, "new", "")


def test_a_connection_shows_its_stream_and_its_end(server: Any, admin: httpx.Client) -> None:
    """Its transport, its last events as it received them, its position, why its stream ended, and how it ended itself."""
    conn_id = server.connect("panel-vic", "panel-v")
    assert described(admin, "connection", conn_id)["expires_in_s"] > 0
    with connect(f"{server.ws_url}/ws?conn_id={conn_id}&since=") as socket:
        assert "resumed" in socket.recv(timeout=PATIENCE_S)
        sent = {"channel": "panel-v", "user": "bob", "message": "one"}
        server.post("/message", [sent, sent | {"exclude_users": ["panel-vic"]}, sent | {"message": "two"}])
        server.post("/message", {"pm_users": ["panel-vic"], "user": "bob", "message": "three"})
        details = until(
            lambda: described(admin, "connection", conn_id), lambda details: len(details["events"]) == 3
        )
        assert (details["state"], details["transport"], details["channels"]) == ("live", "WebSocket", 1)
        assert [json.loads(event["json"])["message"] for event in details["events"]] == [
            "three",
            "two",
            "one",
        ]
        assert details["position"] == details["server_position"] == details["events"][0]["position"]
        assert (details["lag"]["events"], details["waiting_bytes"], details["endings"]) == (0, 0, [])
        assert (details["client"]["address"], "websockets" in details["client"]["agent"]) == (
            "127.0.0.1",
            True,
        )
        socket.close(1001, "away")
    details = until(lambda: described(admin, "connection", conn_id), lambda details: details["endings"] != [])
    assert (details["state"], details["transport"]) == ("detached", "WebSocket")
    assert [(each["code"], each["reason"], each["final"]) for each in details["endings"]] == [
        (1001, "closed by the client", False)
    ]
    admin.post("/do/disconnect", json={"conn_id": conn_id}).raise_for_status()
    details = described(admin, "connection", conn_id)
    assert (details["state"], details["endings"][0]["final"], details["endings"][0]["code"]) == (
        "closed",
        True,
        1000,
    )
    assert admin.get("/data/endings").json()["rows"][0].items() >= details["endings"][0].items()


def test_a_fault_of_the_client_is_remembered(server: Any, admin: httpx.Client) -> None:
    """A stream the server closed for a fault is shown with code and reason."""
    conn_id = server.connect("panel-wes", "panel-w")
    with connect(f"{server.ws_url}/ws?conn_id={conn_id}&since=") as socket:
        socket.send("x" * 200_000)
        details = until(
            lambda: described(admin, "connection", conn_id), lambda details: details["endings"] != []
        )
    assert details["endings"][0]["code"] == 1009


def test_a_lost_line_is_remembered(server: Any, admin: httpx.Client) -> None:
    """An event stream that is cut has no code, and its connection may come back."""
    conn_id = server.connect("panel-xan", "panel-x")
    with http.stream("GET", f"{server.url}/sse?conn_id={conn_id}&since=") as answer:
        next(answer.iter_lines())
        assert described(admin, "connection", conn_id)["transport"] == "SSE"
    details = until(lambda: described(admin, "connection", conn_id), lambda details: details["endings"] != [])
    assert (details["endings"][0]["code"], details["endings"][0]["reason"]) == (None, "the line was lost")


def test_tables_sort_and_search(server: Any, admin: httpx.Client) -> None:
    """Each table is searched by words and sorted by a column."""
    for number in range(3):
        server.connect(f"panel-t{number}", *(f"panel-t{each}" for each in range(number + 1)))

    def names(table: str, column: str, **asked: str) -> list[str]:
        return [row[column] for row in admin.get(f"/data/{table}", params=asked).json()["rows"]]

    assert names("channels", "name", search="PANEL-T", sort="users", descending="true") == [
        "panel-t0", "panel-t1", "panel-t2",
    ]  # fmt: skip
    assert names("users", "name", search="panel-t", sort="channels") == ["panel-t0", "panel-t1", "panel-t2"]
    assert names("connections", "user", search="panel-t", sort="user", descending="true") == [
        "panel-t2", "panel-t1", "panel-t0",
    ]  # fmt: skip


def test_connections_are_filtered_by_state_and_transport(server: Any, admin: httpx.Client) -> None:
    """A value that a column does not have filters nothing; the address of a stream is shown and searched."""
    new, open_id = server.connect("panel-new", "panel-f"), server.connect("panel-open", "panel-f")

    def ids(**asked: str) -> set[str]:
        rows = admin.get("/data/connections", params={"search": "panel-", **asked}).json()["rows"]
        return {row["id"] for row in rows} & {new, open_id}

    with connect(f"{server.ws_url}/ws?conn_id={open_id}&since=") as socket:
        socket.recv(timeout=PATIENCE_S)
        until(lambda: described(admin, "connection", open_id), lambda details: details["state"] == "live")
        assert ids(state="new") == {new}
        assert ids(state="live", transport="WebSocket") == {open_id}
        assert ids(transport="SSE") == set()
        assert ids(state="no such state", user="panel-new") == {new, open_id}
        [row] = admin.get("/data/connections", params={"search": open_id}).json()["rows"]
        assert (row["address"], row["since"] > "2020") == ("127.0.0.1", True)
        assert ids(search="127.0.0.1", state="live") == {open_id}


def test_polls_that_follow_one_another_are_one_stream(server: Any, admin: httpx.Client) -> None:
    """Its time is that of the first, as long as the same client sends them; then that of the next."""
    conn_id = server.connect("panel-poll", "panel-p")

    def poll(agent: str) -> str:
        server.post("/message", {"channel": "panel-p", "user": "bob", "message": 1})
        url = f"{server.url}/listen"
        http.get(url, params={"conn_id": conn_id}, headers={"user-agent": agent}).raise_for_status()
        return str(described(admin, "connection", conn_id)["client"]["since"])

    first = poll("one")
    assert poll("one") == first
    others = (f"another {number}" for number in count())
    eventually(lambda: poll(next(others)) > first, "a poll of another client has the time of the first one's")


def test_every_column_can_be_sorted_by(server: Any, admin: httpx.Client) -> None:
    """The server knows every column that a page offers."""
    server.connect("panel-sort", "panel-sort")
    for table in ("channels", "users", "connections", "nodes"):
        offered = admin.get(f"/{table}").text.split('data-sort="')[1:]
        for column in (each.partition('"')[0] for each in offered):
            assert admin.get(f"/data/{table}", params={"sort": column}).json()["sort"] == column


def test_an_admin_changes_settings_and_sends(server: Any, admin: httpx.Client) -> None:
    """The actions are the API's calls, with its answers and its refusals."""
    admin.post(
        "/do/settings", json={"panel-do": {"store_history": True, "history_size": 3}}
    ).raise_for_status()
    sent = admin.post("/do/message", json={"channel": "panel-do", "user": "admin", "message": {"a": 1}})
    assert sent.json()["channel"] == "panel-do"
    assert described(admin, "channel", "panel-do")["messages"][0]["json"] == '{"a":1}'
    refused = admin.post("/do/settings", json={"panel-do": {"history_size": -1}})
    assert refused.status_code == 422


def test_the_stream_of_figures_leaves_no_trace(start_server: Any) -> None:
    """A watcher is no connection, no user and no delivery of the service."""
    running = start_server()
    with httpx.Client(
        verify=False,
        timeout=PATIENCE_S,
        base_url=f"{running.url}/admin",
        auth=("admin", running.admin_secret),
    ) as admin:
        with admin.stream("GET", "/live") as answer:
            events = (
                json.loads(line.removeprefix("data: "))
                for line in answer.iter_lines()
                if line.startswith("data: ")
            )
            first, second = next(events), next(events)
        document = admin.get("/admin.json").json()
    figures = first["figures"]
    assert (figures["connections"], figures["streams"], figures["users"]) == (0, 0, 0)
    assert second["figures"]["deliveries"] == document["total_messages"] == 0
    assert (document["total_connections"], document["users"], document["channels"]) == (0, [], {})
    assert first["new_samples"] in (0, 1)


def test_a_server_that_stops_does_not_wait_for_watchers(start_server: Any) -> None:
    """An open stream of figures ends with the server."""
    running = start_server()
    watching = http.stream("GET", f"{running.url}/admin/live", auth=("admin", running.admin_secret))
    with watching as answer:
        lines = answer.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        running.process.terminate()
        for _ in lines:
            pass
    running.process.wait(PATIENCE_S)
    code, log = running.stop()
    assert (code, "Traceback" in log, "ERROR" in log) == (0, False, False)


def test_the_past_outlives_a_restart(start_server: Any, tmp_path: Path) -> None:
    """Where the engine does: figures are there, and the start and the stop are marked."""
    engine = f"sqlite:///{tmp_path / 'log.db'}"

    first = start_server("--engine", engine)

    def marks(running: Any) -> list[str]:
        return [mark["kind"] for mark in data(running, "history", range="day")["marks"]]

    eventually(lambda: marks(first) == ["start"], "the start is not marked")
    first.stop()
    second = start_server("--engine", engine)
    eventually(lambda: marks(second) == ["start", "stop", "start"], "a mark is missing")
    refused = second.request("GET", "/admin/data/history?range=year")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
