"""The record of what admins did: how it is written, bounded, logged and read, at one node and at all."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.admin_pages import rows
from tests.conftest import StartServer
from tests.http_client import http
from tests.service.test_local import timed_node
from tests.waiting import PATIENCE_S, eventually, soon
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Close
from websockets.sync.client import connect

from channelstream.admin.actions import described
from channelstream.admin.acts import ACTS, FAILURES_A_MINUTE, KEPT_S, SHOWN, Acts, line_of
from channelstream.admin.history import History
from channelstream.apps.app import App
from channelstream.config import Settings
from channelstream.core.line_limit import MINUTE_S
from channelstream.pages.act import Act, Did
from channelstream.pages.caller import Caller
from channelstream.server import build
from channelstream.service import Record, Service

BOSS = Caller("boss", "192.0.2.1", may_change=True)


@pytest.mark.parametrize(
    ("action", "body", "kind", "name", "more"),
    [
        ("disconnect", '{"conn_id": "c1"}', "connection", "c1", ""),
        (
            "settings",
            '{"a": {"log_events": 1, "store_history": true}}',
            "channel",
            "a",
            "log_events, store_history",
        ),
        ("settings", '{"a": {"log_events": 1}, "b": {}}', "channel", "a", "and 1 more, log_events"),
        ("settings", '{"a": {"log_events": 1, "no setting": 2}}', "channel", "a", "log_events"),
        ("message", '{"channel": "news", "message": 1}', "channel", "news", ""),
        (
            "message",
            '[{"channel": "x"}, {"channel": "x"}, {"pm_users": ["u", "v"]}]',
            "channel",
            "x",
            "and 2 more",
        ),
        ("message", '{"pm_users": ["ann"]}', "user", "ann", ""),
        ("message", '{"channel": "news", "message": "\\ud800"}', "channel", "news", ""),
        ("message", '\ufeff{"channel": "news", "message": 1}', "channel", "news", ""),
        ("message", "[]", "", "", ""),
        ("message", "NaN", "", "", "something"),
        ("message", "7", "", "", "something"),
        ("message", "{}", "", "", "something"),
    ],
)
def test_an_action_is_described_by_its_body(action: str, body: str, kind: str, name: str, more: str) -> None:
    """By what it was done to; nothing of a message is in it."""
    act = described(BOSS, action, body.encode())
    assert (act.who, act.address) == ("boss", "192.0.2.1")
    assert (act.kind, act.name, act.more) == (kind, name, more)


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (
            Act("boss", "::1", Did.SENT, "channel", "a\nb"),
            r"admin 'boss' at ::1 sent a message to channel 'a\nb'",
        ),
        (
            Act("boss", "::1", Did.DISCONNECTED, "connection", "s3cret"),
            "admin 'boss' at ::1 disconnected a connection",
        ),
        (Act("", "::1", Did.FAILED, more="as admin"), "somebody at ::1 failed to sign in, as admin"),
        (
            Act("key k", "::1", Did.SENT, "user", "x" * 500),
            f"admin 'key k' at ::1 sent a message to user '{'x' * 120}'",
        ),
    ],
)
def test_the_log_has_a_line_without_credentials(act: Act, line: str) -> None:
    """A `conn_id` is one. Line ends in names are escaped."""
    assert line_of(act) == line


def test_failed_sign_ins_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """So many failures a minute are recorded; the next one says how many were not."""
    caplog.set_level(logging.INFO)

    async def run() -> None:
        node, clock = await timed_node()
        acts = Acts(Service(App(), node), History(node.time_series, node.clock.wall, node.clock.steady))
        for _ in range(FAILURES_A_MINUTE + 2):
            acts.record(Act("", "::1", Did.FAILED, more="as admin"))
        clock.passed_s += MINUTE_S
        acts.record(Act("", "::1", Did.FAILED, more="as admin"))

    asyncio.run(run())
    line = "somebody at ::1 failed to sign in, as admin"
    assert caplog.messages == [*[line] * FAILURES_A_MINUTE, f"{line}; 2 more not logged"]


def test_acts_are_kept_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Newest first; what another version has written is left out. No sign-ins push out what admins did."""
    caplog.set_level(logging.INFO)

    async def run() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        service = Service(App(), node)
        acts = Acts(service, History(node.time_series, node.clock.wall, node.clock.steady))
        await node.time_series.append(ACTS.format(service.app.id), Record(node.clock.wall(), b"?"), KEPT_S)
        for number in range(SHOWN + 2):
            acts.record(Act("boss", "::1", Did.SENT, "channel", f"{number}"))
        acts.record(Act("boss", "::1", Did.SENT, "channel", "x" * 5000))
        for _ in range(SHOWN):
            acts.record(Act("reader", "::1", Did.SIGNED_OUT))
        for _ in range(FAILURES_A_MINUTE + 1):
            acts.record(Act("", "::1", Did.FAILED, more="as admin"))

        async def are_written() -> bool:
            rows = await acts.read()
            return bool(rows) and rows[0]["did"] == Did.FAILED

        await soon(are_written, "the acts are not written")
        rows = await acts.read()
        assert [row["did"] for row in rows[:FAILURES_A_MINUTE]] == [Did.FAILED] * FAILURES_A_MINUTE
        assert [row["did"] for row in rows].count(Did.SIGNED_OUT) == SHOWN - FAILURES_A_MINUTE
        assert [row["did"] for row in rows].count(Did.SENT) == SHOWN
        sent = [row["name"] for row in rows if row["did"] == Did.SENT]
        assert (len(sent[0]), sent[1:3]) == (512, [f"{SHOWN + 1}", f"{SHOWN}"])

    asyncio.run(run())
    assert "admin 'boss' at ::1 sent a message to channel '7'" in caplog.text


def wait_for(server: Any, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    eventually(lambda: any(map(found, rows(server, "acts"))), "the act is not there")
    return next(filter(found, rows(server, "acts")))


@pytest.mark.nodes(1, 3)
def test_all_nodes_show_what_was_done_at_one(server: Any) -> None:
    auth = ("", server.admin_secret)
    body = {"channel": "acts-news", "user": "u", "message": "not-in-the-record"}
    assert http.post(f"{server.any.url}/admin/do/message", json=body, auth=auth).status_code == 200
    started = http.post(
        f"{server.any.url}/admin/trace.json", json={"conn_id": "acts-c", "minutes": "1"}, auth=auth
    )
    assert started.status_code == 200
    server.post("/admin/trace.json", {"conn_id": "acts-c", "minutes": "0"})
    for node in getattr(server, "nodes", [server]):
        sent = wait_for(node, lambda row: row["name"] == "acts-news")
        assert (sent["who"], sent["address"], sent["did"]) == ("admin", "127.0.0.1", "sent a message to")
        begun = wait_for(node, lambda row: row["name"] == "acts-c" and row["did"] == "started a trace of")
        assert (begun["kind"], begun["more"]) == ("connection", "for 1 min")
        ended = wait_for(node, lambda row: row["name"] == "acts-c" and row["did"] == "stopped the trace of")
        assert ended["who"] == "the option secret"
        assert "not-in-the-record" not in str(rows(node, "acts"))


def test_acts_outlive_a_restart_and_are_logged(start_server: StartServer, tmp_path: Path) -> None:
    """Where the engine does. No line of the log has the connection's id."""
    engine = ("--engine", f"sqlite:///{tmp_path / 'log.db'}")
    running = start_server(*engine)
    conn_id = running.connect("acts-ann", conn_id="acts-secret-id")
    auth = ("", running.admin_secret)
    for _ in range(2):  # The second time there is none.
        http.post(f"{running.url}/admin/do/disconnect", json={"conn_id": conn_id}, auth=auth)
    http.get(f"{running.url}/admin", auth=("", "wrong"))
    _, log = running.stop()
    assert log.count("admin 'admin' at 127.0.0.1 disconnected a connection\n") == 1
    assert "somebody at 127.0.0.1 failed to sign in, by HTTP Basic" in log
    assert conn_id not in log
    assert [(row["did"], row["name"]) for row in rows(start_server(*engine), "acts")] == [
        ("failed to sign in", ""),
        ("disconnected", conn_id),
    ]


def test_each_application_has_its_own_record(start_server: StartServer) -> None:
    """The log names the application."""
    environ = {"SECRET": "shop-secret-of-the-tests", "ADMIN_SECRET": "shop-admin-secret-of-the-tests"}
    running = start_server(**{f"CHANNELSTREAM_APP_SHOP_{name}": value for name, value in environ.items()})
    auth, url = ("", environ["ADMIN_SECRET"]), f"{running.url}/app/shop/admin"
    http.post(f"{url}/trace.json", json={"user": "acts-bo"}, auth=auth).raise_for_status()

    def names() -> list[str]:
        found: list[dict[str, Any]] = http.get(f"{url}/data/acts", auth=auth).json()["rows"]
        return [row["name"] for row in found]

    eventually(lambda: names() == ["acts-bo"], "the act is not there")
    assert rows(running, "acts") == []
    _, log = running.stop()
    assert "application shop: admin 'admin' at 127.0.0.1 started a trace of user 'acts-bo', for 5 min" in log


@pytest.mark.nodes(1, 3)
def test_what_ended_says_that_an_admin_did_it(server: Any) -> None:
    """In the endings and in a trace, with the name; the client is sent neither."""
    home = server.any
    conn_id = home.connect("acts-cut", "acts-cut")
    server.post("/admin/trace.json", {"conn_id": conn_id})
    with connect(f"{home.ws_url}/ws?conn_id={conn_id}") as stream:
        asker = server.any
        auth = ("", server.admin_secret)
        http.post(f"{asker.url}/admin/do/disconnect", json={"conn_id": conn_id}, auth=auth).raise_for_status()
        with pytest.raises(ConnectionClosedOK) as closed:
            while True:
                assert "admin" not in str(stream.recv(timeout=PATIENCE_S))
    assert closed.value.rcvd == Close(1000, "disconnected by the application")
    described = asker.request("GET", f"/admin/data/connection?name={conn_id}").json()
    assert [each["reason"] for each in described["endings"]] == ["disconnected by an admin (admin)"]
    notes = asker.request("GET", f"/admin/trace.json?conn_id={conn_id}").json()["notes"]
    assert notes[-1]["fact"]["text"] == "1000: disconnected by an admin (admin)"
    server.post("/admin/trace.json", {"conn_id": conn_id, "minutes": "0"})
