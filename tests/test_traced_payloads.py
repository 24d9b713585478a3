"""Payloads in traces: only on demand, bounded in time, marked and recorded."""

import asyncio
import json
from typing import Any

import pytest
from tests.http_client import http
from tests.simulation.loop import VirtualLoop
from tests.waiting import eventually

from channelstream.apps.app import App
from channelstream.cli.trace import lines
from channelstream.config import Settings
from channelstream.core.trace import Asked
from channelstream.server import build
from channelstream.service import Service
from channelstream.tracing import Tracer

PATH = "/admin/trace.json"


def trace(node: Any, query: str) -> Any:
    return node.request("GET", f"{PATH}?{query}").json()


def payloads(document: Any) -> list[str | None]:
    return [note["fact"]["payload"] for note in document["notes"] if note["fact"]["what"] != "attached"]


def acts_about(node: Any, name: str) -> list[tuple[str, str, str]]:
    rows = node.request("GET", "/admin/data/acts").json()["rows"]
    return [(row["who"], row["did"], row["more"]) for row in reversed(rows) if row["name"] == name]


@pytest.mark.nodes(1, 3)
def test_payloads_are_there_on_demand_at_all_nodes(server: Any) -> None:
    """With who has asked; both are gone when the trace is stopped."""
    nodes, name = getattr(server, "nodes", [server]), "payload-on"
    if len(nodes) > 1:
        listed = "/admin/data/nodes"
        eventually(lambda: server.request("GET", listed).json()["total"] == len(nodes), "a node is missing")
    ids = [node.connect(f"{name}-{at}", name) for at, node in enumerate(nodes)]
    message = {"channel": name, "user": "zoe", "message": {"text": "seen by admins"}}
    server.post(PATH, {"channel": name})
    server.post("/message", [message])
    # At nodes on Redis it is accepted when it arrives.
    eventually(lambda: payloads(trace(server.any, f"channel={name}"))[-1:] == [None], "it is not noted")
    auth = ("", server.admin_secret)
    begun = http.post(f"{server.any.url}{PATH}", json={"channel": name, "payload": "true"}, auth=auth).json()
    assert begun["asked"]["by"] == "admin"
    uuid = nodes[0].post("/message", [message])[0]["uuid"]
    nodes[-1].request("PATCH", "/message", [{"channel": name, "uuid": uuid, "message": "changed"}])
    for node in nodes:
        eventually(
            lambda node=node: (
                payloads(trace(node, f"channel={name}"))[-2:] == ['{"text":"seen by admins"}', '"changed"']
            ),
            "a payload is missing",
        )
        found = trace(node, f"channel={name}")
        assert found["asked"]["by"] == "admin"
        assert [row["asked"]["by"] for row in found["traces"] if row["name"] == name] == ["admin"]
    http.get(f"{nodes[0].url}/listen?conn_id={ids[0]}&since=")
    nodes[-1].post(PATH, {"channel": name, "minutes": "0"})
    for node in nodes:
        found = trace(node, f"channel={name}")
        assert (set(payloads(found)), found["asked"]) == ({None}, None)


def test_who_asks_and_who_looks_is_recorded(server: Any) -> None:
    """Each look at a trace once; without payload there is nothing to record."""
    name = "payload-who"
    server.connect("payload-who-1", name, conn_id="payload-who-1")
    server.post(PATH, {"channel": name, "payload": "true", "minutes": "2"})
    trace(server, f"channel={name}")
    server.post("/message", [{"channel": name, "user": "zoe", "message": 1}])
    reader = ("", server.reader_secret)
    for _ in range(2):
        seen = http.get(f"{server.url}{PATH}?channel={name}", auth=reader).json()
        assert payloads(seen) == ["1"]
    with http.stream(
        "GET", f"{server.url}/admin/trace/live?channel={name}", auth=("", server.admin_secret)
    ) as live:
        data = next(line for line in live.iter_lines() if line.startswith("data: "))
        assert payloads(json.loads(data.removeprefix("data: "))) == ["1"]
    expected = [
        ("the option secret", "started a trace of", "for 2 min, with payload"),
        ("reader", "looked at the payloads of a trace of", ""),
        ("admin", "looked at the payloads of a trace of", ""),
    ]
    eventually(lambda: acts_about(server, name) == expected, "an act is missing")
    server.post(PATH, {"channel": name, "minutes": "0"})


@pytest.mark.parametrize("payload", ["yes", "", "1"])
def test_only_true_and_false_are_understood(server: Any, payload: str) -> None:
    assert server.request("POST", PATH, {"user": "payload-x", "payload": payload}).status_code == 400


def test_a_reader_cannot_ask_for_payloads(server: Any) -> None:
    body, auth = {"user": "payload-x", "payload": "true"}, ("", server.reader_secret)
    assert http.post(f"{server.url}{PATH}", json=body, auth=auth).status_code == 403
    assert http.post(f"{server.url}/admin/trace", data=body, auth=auth).status_code == 403
    assert trace(server, "user=payload-x")["seconds_left"] == 0


def test_payloads_are_dropped_when_the_trace_ends() -> None:
    """Though nobody looks, and no event comes."""
    loop = VirtualLoop()

    async def run() -> None:
        tracer = Tracer(Service(App(), build(Settings(port=0)).node))
        tracer.start("user", "bob", 1, Asked("boss", 0.0))
        tracer.start("user", "eve", 3, Asked("boss", 0.0))
        assert tracer.view("user", "bob", 0).asked is not None
        await asyncio.sleep(61)  # virtual time: the loop jumps
        assert tracer.view("user", "bob", 0).asked is None
        assert tracer.view("user", "eve", 0).asked is not None
        tracer.start("user", "eve", 0)
        assert not loop._scheduled or all(handle.cancelled() for handle in loop._scheduled)

    loop.run_until_complete(run())
    loop.close()


def test_the_command_prints_a_payload_without_what_a_terminal_executes() -> None:
    known = dict.fromkeys(("type", "channel", "by", "uuid", "size", "user", "conn_id"))
    fact = {
        "what": "accepted",
        **known,
        "text": "",
        "outcomes": [],
        "counts": {},
        "payload": "\u00e9\u202e\x9b1",
    }
    note = {"at_s": 0.0, "nodes": [], "fact": fact}
    assert list(lines(note)) == ["00:00:00 accepted", "    payload: \u00e9\\u202e\\x9b1"]
