"""Event streams over real sockets: blocks, ids, closing items, refusals."""

from typing import Any

import pytest
from tests.transports.messages import publish

pytestmark = pytest.mark.nodes(1, 3)


def test_a_block_is_one_list_under_the_position_of_its_last_item(
    server: Any, clients: Any, channel: str
) -> None:
    """Each block is one JSON list under the position of its last item."""
    stream = clients.sse(server.port, f"conn_id={server.connect('ann', channel)}&since=")
    assert b"\r\ncontent-type: text/event-stream; charset=utf-8\r\n" in stream.head
    position, [resumed] = stream.full_block()
    assert (resumed["type"], resumed["position"]) == ("resumed", position)
    publish(server, channel, "one", "two")
    position, items = stream.full_block()
    assert [item["message"]["text"] for item in items] == ["one", "two"]
    assert position == items[-1]["position"]


def test_last_event_id_wins(server: Any, clients: Any, channel: str) -> None:
    """A browser that reconnects by itself sends Last-Event-ID, which counts more than `since`."""
    query = f"conn_id={server.connect('ann', channel)}&since="
    first = clients.sse(server.port, query)
    position, _ = first.full_block()
    publish(server, channel, "missed")
    first.items()
    first.reset()
    again = clients.sse(server.port, query, headers=f"Last-Event-ID: {position}\r\n")
    _, [resumed] = again.full_block()
    assert (resumed["position"], resumed["recovered"]) == (position, ["", channel])
    assert [item["message"]["text"] for item in again.items()] == ["missed"]


def test_an_empty_last_event_id_counts_as_absent(server: Any, clients: Any, channel: str) -> None:
    """An empty Last-Event-ID counts as absent: the stream resumes from `since`, and nothing is lost."""
    query = f"conn_id={server.connect('ann', channel)}&since="
    first = clients.sse(server.port, query)
    position, _ = first.full_block()
    publish(server, channel, "missed")
    first.items()
    first.reset()
    again = clients.sse(server.port, query + str(position), headers="Last-Event-ID:\r\n")
    _, [resumed] = again.full_block()
    assert (resumed["position"], resumed["recovered"]) == (position, ["", channel])
    assert [item["message"]["text"] for item in again.items()] == ["missed"]


def test_a_newer_stream_replaces_the_older_one(server: Any, clients: Any, channel: str) -> None:
    """The older of two streams ends with a closing item that says 4002."""
    query = f"conn_id={server.connect('ann', channel)}&since="
    older = clients.sse(server.port, query)
    older.items()
    clients.sse(server.port, query).items()
    [closing] = older.items()
    assert (closing["type"], closing["code"]) == ("closing", 4002)
    assert older.rest() == b""


def test_disconnect_ends_the_stream_with_a_closing_item(server: Any, clients: Any, channel: str) -> None:
    """`/disconnect` ends the stream with a closing item that says 1000."""
    conn_id = server.connect("ann", channel)
    stream = clients.sse(server.port, f"conn_id={conn_id}&since=")
    stream.items()
    server.post("/disconnect", {"conn_id": conn_id})
    assert stream.items()[-1]["code"] == 1000
    assert stream.rest() == b""


@pytest.mark.parametrize(("query", "status"), [("conn_id=x", 401), ("conn_id=%00", 401), ("", 422)])
def test_a_wrong_conn_id_is_refused(server: Any, query: str, status: int) -> None:
    """An unknown or malformed conn_id is answered 401, a missing one 422."""
    assert server.request("GET", f"/sse?{query}").status_code == status


def test_a_line_break_in_since_adds_no_line(server: Any, clients: Any, channel: str) -> None:
    """A position that holds a line break makes no line of the stream."""
    query = f"conn_id={server.connect('ann', channel)}&since=a%0Adata:%20evil-1"
    position, [resumed] = clients.sse(server.port, query).full_block()
    assert position == resumed["position"]
    assert "evil" not in position
    assert resumed["lost"] == ["", channel]


def test_a_stream_behind_another_request_opens_after_its_answer(
    server: Any, clients: Any, channel: str
) -> None:
    """An event stream asked for in the packet of an earlier request opens after its answer."""
    raw = clients.raw(server.port)
    conn_id = server.connect("ann", channel)
    raw.send(
        b"GET /listen?conn_id=x HTTP/1.1\r\nHost: test\r\n\r\n"
        + f"GET /sse?conn_id={conn_id}&since= HTTP/1.1\r\nHost: test\r\n\r\n".encode()
    )
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    raw.until(b"text/event-stream")
    raw.until(b'"resumed"')


def test_a_client_that_keeps_sending_is_dropped(server: Any, clients: Any, channel: str) -> None:
    """A client that sends many bytes after its request is dropped."""
    stream = clients.sse(server.port, f"conn_id={server.connect('ann', channel)}&since=")
    stream.items()
    stream.send(b"x" * 5000)
    assert stream.rest() == b""
