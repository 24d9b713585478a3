"""The subscriber of `listen`: its output, and what it does when a stream ends."""

import json
from collections.abc import AsyncIterator

import pytest

from channelstream.cli.listen import Subscriber
from channelstream.cli.remote import Server
from channelstream.errors import RequestFailed
from channelstream_client.protocol import Item, StreamEnded
from channelstream_client.reach import Reach
from channelstream_client.streams import Opening

Script = list[tuple[list[Item], int]]


class Scripted:
    """A stream that plays one act each time it opens: some items, then a close code."""

    def __init__(self, acts: Script) -> None:
        self.acts = acts
        self.opened: list[tuple[str, str]] = []

    async def __call__(self, opening: Opening, reach: Reach) -> AsyncIterator[str]:
        self.opened.append((opening.conn_id, opening.position))
        items, code = self.acts.pop(0)
        if items:
            yield json.dumps(items)
        raise StreamEnded(code, "")


class Answering(Server):
    """A server that gives connections c1, c2, ..., or fails on request."""

    failures: list[RequestFailed | None]
    named: list[str]

    def post(self, path: str, body: object, wanted: type, *keys: str) -> dict[str, str]:  # type: ignore[override]
        assert isinstance(body, dict)
        assert (path, body["username"], body["channels"]) == ("/connect", "alice", ["news"])
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise failure
        self.named.append(body["since"])
        return {"conn_id": f"c{len(self.named)}"}


def answering(*failures: RequestFailed | None) -> Answering:
    server = Answering("http://127.0.0.1:9", "secret")
    object.__setattr__(server, "failures", list(failures))
    object.__setattr__(server, "named", [])
    return server


def play(acts: Script, *failures: RequestFailed | None) -> tuple[int, Scripted, Answering]:
    stream, server = Scripted(acts), answering(*failures)
    return Subscriber(server, "alice", ["news"], stream, jitter=lambda: 0.0).listen(), stream, server


def event(number: int) -> Item:
    return {"type": "message", "message": number, "position": f"e-{number}", "of a later version": [1]}


def test_prints_events_and_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    """After a drop it reconnects with the position of the last event, and prints each event as one line, unchanged."""
    code, stream, _ = play([([event(1), event(2)], 1006), ([event(3)], 1000)])
    assert code == 0
    assert stream.opened == [("c1", ""), ("c1", "e-2")]
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [event(1), event(2), event(3)]
    assert err.splitlines() == [
        "channelstream: stream ended: closed (1006)",
        "channelstream: the connection was ended",
    ]


@pytest.mark.parametrize("final", [4002, 1002, 1007, 1008, 1009])
def test_stops_where_it_must(final: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A code that says stop ends it with exit code 1."""
    code, stream, _ = play([([event(1)], final)])
    assert (code, len(stream.opened)) == (1, 1)
    assert f"stream ended: closed ({final})" in capsys.readouterr().err


def test_a_stream_that_does_not_open_has_not_ended(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither at the start, nor after the end of one that was open."""
    play([([], 1006), ([event(1)], 1006), ([], 1006), ([event(2)], 1008)])
    lines = [line.removeprefix("channelstream: ") for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "no stream: closed (1006)",
        "stream ended: closed (1006)",
        "no stream: closed (1006)",
        "stream ended: closed (1008)",
    ]


def test_unknown_connection_is_replaced() -> None:
    """When the server has forgotten the connection, a new one continues from the same position."""
    _, stream, server = play([([event(1)], 4001), ([], 1000)])
    assert stream.opened[1] == ("c2", "e-1")
    assert server.named == ["", "e-1"]


def test_resumed_item_is_no_event(capsys: pytest.CaptureFixture[str]) -> None:
    """The resumed item is not printed, its position is kept, and lost channels are reported on stderr."""
    resumed = {"type": "resumed", "position": "e-9", "recovered": ["a"], "lost": ["news"]}
    _, stream, _ = play([([resumed], 1006), ([resumed], 1000)])
    out, err = capsys.readouterr()
    assert out == ""
    assert (err.count("missing from: news"), err.count("listening to news as alice")) == (2, 1)
    assert stream.opened[1] == ("c1", "e-9")


def test_private_messages_alone_come_with_advice(capsys: pytest.CaptureFixture[str]) -> None:
    """Without channels the first line says how to subscribe to some."""
    Subscriber(answering(), "alice", [], Scripted([])).report_start({"type": "resumed"})
    assert capsys.readouterr().err == (
        "channelstream: listening to private messages as alice; -c CHANNEL subscribes to channels as well\n"
    )


def test_server_out_of_reach_may_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    """A new connection is asked for again while the server cannot be reached or is not ready."""
    down, starting = RequestFailed("no answer"), RequestFailed("too many", 429)
    code, stream, _ = play([([], 4001), ([], 1000)], None, down, starting)
    assert (code, stream.opened) == (0, [("c1", ""), ("c2", "")])
    err = capsys.readouterr().err
    assert "no answer" in err
    assert "too many" in err


def test_refusal_is_final() -> None:
    """A server that refuses the subscriber is not asked again, nor one that is unreachable at the start."""
    with pytest.raises(RequestFailed, match="forbidden"):
        play([([], 4001)], None, RequestFailed("forbidden", 403))
    with pytest.raises(RequestFailed):
        play([], RequestFailed("no answer"))
