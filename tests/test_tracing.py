"""Tracing: off it is not there, on it is bounded; over HTTP and from the command line."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.http_client import http
from tests.waiting import PATIENCE_S

from channelstream.apps.app import App
from channelstream.cli.trace import lines
from channelstream.config import Settings
from channelstream.core.explain import Fate
from channelstream.core.trace import (
    MAX_MINUTES,
    MAX_NOTES,
    MAX_TRACES,
    NOTES_PER_ANSWER,
    Fact,
    FactKind,
    Kind,
    Subject,
    Trace,
)
from channelstream.core.trace_filter import EVERYTHING
from channelstream.errors import Invalid, TooManyRequests
from channelstream.pages.form import MAX_FIELDS
from channelstream.server import build
from channelstream.service import Node, Service
from channelstream.tracing import Tracer

PATH = "/admin/trace.json"


@pytest.fixture
def node() -> Node:
    return build(Settings(port=0)).node


def consumers_of(node: Node) -> dict[str, object]:
    """Return the consumers of each signal."""
    return {name: getattr(node.signals, name)._consumers for name in node.signals.__slots__}


@pytest.mark.replaces_compiled
def test_tracing_that_is_off_costs_nothing(node: Node) -> None:
    """Before the first and after the last trace the engine calls the hub directly, and no trace consumes a signal."""
    tracer = Tracer(Service(App(), node))
    consumers = consumers_of(node)
    assert node.deliver == node.hub.deliver
    tracer.start("user", "bob", 5)
    assert node.deliver != node.hub.deliver
    assert consumers_of(node) != consumers
    tracer.start("user", "bob", 0)
    assert node.deliver == node.hub.deliver
    assert consumers_of(node) == consumers


def test_traces_are_bounded(node: Node) -> None:
    """So many run, each so long; an ended one makes room."""
    tracer = Tracer(Service(App(), node))
    for number in range(MAX_TRACES):
        tracer.start("user", str(number), 1)
    with pytest.raises(TooManyRequests):
        tracer.start("user", "more", 1)
    tracer.start("user", "0", 0)
    tracer.start("user", "more", 1)
    assert len(tracer.listing()) == MAX_TRACES
    with pytest.raises(Invalid):
        tracer.start("user", "bob", MAX_MINUTES + 1)


def test_notes_are_bounded() -> None:
    """The oldest note is dropped, and numbers continue."""
    trace = Trace(Subject(Kind.USER, "bob"), 1.0)
    for _ in range(MAX_NOTES + 3):
        trace.note(0.0, Fact(what=FactKind.SLOW))
    assert trace.after(0, EVERYTHING.passes)[0].number == 4
    assert [note.number for note in trace.after(MAX_NOTES + 2, EVERYTHING.passes)] == [MAX_NOTES + 3]


def test_a_server_traces_the_outcomes_of_messages(server: Any) -> None:
    """Accepted with its fate, repeated by uuid, and no payload."""
    server.connect("trace-bob", "trace-news", conn_id="trace-c1")
    server.post(PATH, {"user": "trace-bob"})
    message = {"channel": "trace-news", "user": "zoe", "message": "hidden-text"}
    uuid = server.post("/message", [message | {"exclude_users": ["trace-bob"]}])[0]["uuid"]
    server.post("/message", [message | {"uuid": uuid}])
    server.post("/message", [message])
    answer = server.request("GET", f"{PATH}?user=trace-bob")
    facts = [note["fact"] for note in answer.json()["notes"]]
    assert [fact["what"] for fact in facts] == ["accepted", "repeated", "accepted"]
    assert [each["fate"] for each in facts[0]["outcomes"]] == ["excluded by exclude_users"]
    assert [each["conn_id"] for each in facts[2]["outcomes"]] == ["trace-c1"]
    assert "hidden-text" not in answer.text
    assert len(server.request("GET", f"{PATH}?user=trace-bob&after=2").json()["notes"]) == 1
    server.post(PATH, {"user": "trace-bob", "minutes": "0"})


def test_a_first_member_is_there_when_its_join_is_traced(server: Any) -> None:
    """The trace of a channel says who was not sent the event of the join, not that the channel has no members."""
    server.post("/channel_config", {"trace-hall": {"notify_presence": True}})
    server.post(PATH, {"channel": "trace-hall"})
    conn_id = server.connect("trace-ann", "trace-hall")
    notes = server.request("GET", f"{PATH}?channel=trace-hall").json()["notes"]
    outcomes = [each for note in notes for each in note["fact"].get("outcomes", ())]
    assert [(each["conn_id"], each["fate"]) for each in outcomes] == [(conn_id, Fate.OWN_PRESENCE.value)]
    server.post(PATH, {"channel": "trace-hall", "minutes": "0"})


def test_looking_starts_nothing_and_strangers_see_nothing(server: Any) -> None:
    """A GET starts no trace; without credentials, or from another site, there is no answer."""
    assert server.request("GET", f"{PATH}?user=nobody-asked").json()["seconds_left"] == 0
    assert http.get(server.url + PATH).status_code == 403
    assert http.get(server.url + "/admin/trace").status_code == 302
    foreign = {"origin": "http://evil.test"}
    assert server.request("POST", PATH, {"user": "x"}, headers=foreign).status_code == 403
    assert server.request("POST", PATH, {"minutes": "1"}).status_code == 400
    assert server.request("POST", PATH, {"user": "x", "minutes": "many"}).status_code == 400


def test_names_stay_text_on_the_page(server: Any) -> None:
    """HTML in a traced name is shown as text."""
    auth = ("admin", server.admin_secret)
    name = "<b>trace</b>"
    begun = http.post(f"{server.url}/admin/trace", data={"kind": "user", "name": name}, auth=auth)
    assert begun.status_code == 302
    page = http.get(server.url + begun.headers["location"], auth=auth).text
    assert "&lt;b&gt;trace&lt;/b&gt;" in page
    assert name not in page
    server.post(PATH, {"user": name, "minutes": "0"})


def events(server: Any, query: str) -> Iterator[Any]:
    """Yield what the page of a trace is sent."""
    with http.stream(
        "GET", f"{server.url}/admin/trace/live?{query}", auth=("admin", server.admin_secret)
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_the_page_is_sent_the_newest_notes_then_new_ones(server: Any) -> None:
    """Of those only what the filter lets through."""
    server.connect("trace-live", "trace-live", conn_id="trace-live-c")
    server.post(PATH, {"channel": "trace-live"})
    message = {"channel": "trace-live", "message": 1}

    def send(user: str, count: int) -> None:
        server.post("/message", [message | {"user": user}] * count)

    send("zoe", NOTES_PER_ANSWER + 1)
    send("bob", 1)
    watching = events(server, "channel=trace-live&only_user=zoe&only_outcome=not+delivered")
    assert [note["number"] for note in next(watching)["notes"]] == list(range(2, NOTES_PER_ANSWER + 2))
    send("bob", 1)
    send("zoe", 1)
    notes = next(event["notes"] for event in watching if event["notes"])
    assert [note["number"] for note in notes] == [NOTES_PER_ANSWER + 4]
    watching.close()
    server.post(PATH, {"channel": "trace-live", "minutes": "0"})


@pytest.mark.parametrize(("query", "status"), [("", 400), ("kind=x&name=y", 422)])
def test_a_page_that_names_nothing_to_trace_is_refused(server: Any, query: str, status: int) -> None:
    auth = ("admin", server.admin_secret)
    assert http.get(f"{server.url}/admin/trace/live?{query}", auth=auth).status_code == status
    assert http.get(f"{server.url}/admin/trace?{query}", auth=auth).status_code == (status if query else 200)
    assert http.get(f"{server.url}/admin/trace/live?user=x").status_code == 401


def test_a_form_with_too_many_fields_starts_no_trace(server: Any) -> None:
    fields = {"kind": "user", "name": "trace-form", **dict.fromkeys(map(str, range(MAX_FIELDS)), "x")}
    auth = ("admin", server.admin_secret)
    assert http.post(f"{server.url}/admin/trace", data=fields, auth=auth).status_code == 400
    assert "trace-form" not in server.request("GET", PATH).text


def test_the_command_counts_what_was_delivered() -> None:
    """And names who did not receive an event; on demand all of them."""
    late = {"fate": "waits", "user": "bob", "conn_id": "b", "wait_s": 9}
    got = {"fate": "delivered", "user": "ann", "conn_id": "a", "wait_s": None}
    known = dict.fromkeys(("type", "channel", "by", "uuid", "size", "user", "conn_id"))
    fact = {
        "what": "accepted",
        **known,
        "text": "",
        "outcomes": [late, got],
        "counts": {"waits": 3, "delivered": 504},
    }
    note = {"at_s": 0.0, "nodes": ["host:1"], "fact": fact}
    waiting = ["00:00:00 accepted at host:1", "    waits: 'bob' 'b' (9 s left)"]
    assert list(lines(note)) == [*waiting, "    waits: 2 more", "    delivered: 504"]
    named = [*waiting, "    delivered: 'ann' 'a'", "    waits: 2 more", "    delivered: 503 more"]
    assert list(lines(note, names_delivered=True)) == named


@pytest.mark.slow
@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_and_stops(server: Any, ends: signal.Signals) -> None:
    """`channelstream trace` prints an event with its recipients; Ctrl-C and SIGTERM stop the trace."""
    server.connect("cli-bob", "trace-cli", conn_id="trace-cli-c")
    command = [sys.executable, "-m", "channelstream", "trace", "--channel", "trace-cli", "--payload"]
    with subprocess.Popen(
        [*command, "--url", server.url, "-s", server.secret],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        assert "tracing channel trace-cli" in process.stderr.readline()
        server.post("/message", [{"channel": "trace-cli", "user": "zoe", "message": 1}])
        assert "accepted type='message' channel='trace-cli' by='zoe'" in process.stdout.readline()
        assert process.stdout.readline() == "    payload: 1\n"
        assert "never had a stream: 'cli-bob' 'trace-cli-c'" in process.stdout.readline()
        process.send_signal(ends)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert server.request("GET", f"{PATH}?channel=trace-cli").json()["seconds_left"] == 0


def test_a_replay_is_traced(server: Any) -> None:
    """A message that waited for the stream is noted as accepted, then replayed; a position of another log as lost."""
    server.connect("trace-late", "trace-gap", conn_id="trace-late-c")
    server.post(PATH, {"conn_id": "trace-late-c"})
    server.post("/message", [{"channel": "trace-gap", "user": "zoe", "message": 1}])
    assert len(http.get(f"{server.url}/listen?conn_id=trace-late-c").json()) == 1
    http.get(f"{server.url}/listen?conn_id=trace-late-c&since=other-1")
    notes = server.request("GET", f"{PATH}?conn_id=trace-late-c").json()["notes"]
    facts = [note["fact"]["what"] for note in notes]
    assert facts[:3] == ["accepted", "attached", "replayed"]
    assert {"detached", "lost"} <= set(facts)
    server.post(PATH, {"conn_id": "trace-late-c", "minutes": "0"})
