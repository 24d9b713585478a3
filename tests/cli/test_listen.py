"""The subscriber of `listen`: its output, and when it reconnects."""

import json
from collections.abc import Iterator

import pytest

from channelstream.cli.listen import Subscriber
from channelstream.cli.remote import Server
from channelstream.cli.streams import Item, ResumePoint, StreamEnded
from channelstream.errors import RequestFailed

Script = list[tuple[list[Item], int]]


class Scripted:
    """A stream that plays one act each time it opens: some items, then a close code."""

    def __init__(self, acts: Script) -> None:
        self.acts = acts
        self.opened: list[dict[str, str]] = []

    def __call__(self, server: Server, resume_point: ResumePoint) -> Iterator[Item]:
        self.opened.append(resume_point.query)
        items, code = self.acts.pop(0)
        yield from items
        raise StreamEnded(code, "")


class Answering:
    """A server that gives connections c1, c2, ..., or fails on request."""

    def __init__(self, *failures: RequestFailed | None) -> None:
        self.failures = list(failures)
        self.made = 0
        self.named: list[str] = []

    def post(self, path: str, body: dict[str, object], wanted: type, *keys: str) -> dict[str, str]:
        assert (path, body["username"], body["channels"]) == ("/connect", "alice", ["news"])
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise failure
        self.made += 1
        self.named.append(str(body["since"]))
        return {"conn_id": f"c{self.made}"}


def play(acts: Script, *failures: RequestFailed | None) -> tuple[int, Scripted, list[float]]:
    waits: list[float] = []
    stream = Scripted(acts)
    server = Answering(*failures)
    subscriber = Subscriber(server, "alice", ["news"], stream, wait=waits.append, jitter=lambda: 1.0)
    return subscriber.listen(), stream, waits


def event(number: int) -> Item:
    return {"type": "message", "message": number, "position": f"e-{number}"}


def test_prints_events_and_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    """After a drop it reconnects with the position of the last event, and prints each event as one line."""
    code, stream, _ = play([([event(1), event(2)], 1006), ([event(3)], 1000)])
    assert code == 0
    assert stream.opened == [{"conn_id": "c1", "since": ""}, {"conn_id": "c1", "since": "e-2"}]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        event(1),
        event(2),
        event(3),
    ]


@pytest.mark.parametrize("final", [4002, 1002, 1007, 1008, 1009])
def test_stops_where_it_must(final: int) -> None:
    """A code that says stop ends it with exit code 1."""
    code, stream, waits = play([([], final)])
    assert (code, len(stream.opened), waits) == (1, 1, [])


def test_unknown_connection_is_replaced() -> None:
    """When the server has forgotten the connection, a new one continues from the same position."""
    server, stream = Answering(), Scripted([([event(1)], 4001), ([], 1000)])
    Subscriber(server, "alice", ["news"], stream, wait=lambda _: None).listen()
    assert stream.opened[1] == {"conn_id": "c2", "since": "e-1"}
    assert server.named == ["", "e-1"]


def test_waits_follow_the_policy_of_all_clients() -> None:
    """Failures in a row wait longer, and the first 4001 or 4008 of the server costs no wait."""
    _, _, waits = play([([], 1013), ([], 1006), ([event(1)], 4008), ([], 1006), ([], 1000)])
    assert waits == [3, 1, 0, 2]


def test_resumed_item_is_no_event(capsys: pytest.CaptureFixture[str]) -> None:
    """The resumed item is not printed, its position is kept, and lost channels are reported on stderr."""
    resumed = {"type": "resumed", "position": "e-9", "recovered": ["a"], "lost": ["news"]}
    _, stream, _ = play([([resumed], 1006), ([], 1000)])
    out, err = capsys.readouterr()
    assert out == ""
    assert "missing from: news" in err
    assert stream.opened[1]["since"] == "e-9"


def test_server_out_of_reach_may_come_back() -> None:
    """A new connection is asked for again while the server cannot be reached or is not ready."""
    down, starting = RequestFailed("no answer"), RequestFailed("too many", 429)
    code, _, waits = play([([], 4001), ([], 1000)], None, down, starting)
    assert (code, waits) == (0, [0, 0.5, 1])


def test_refusal_is_final() -> None:
    """A server that refuses the subscriber is not asked again, nor one that is unreachable at the start."""
    with pytest.raises(RequestFailed):
        play([([], 4001)], None, RequestFailed("forbidden", 403))
    with pytest.raises(RequestFailed):
        play([], RequestFailed("no answer"))
