"""Long polls over real sockets: answers, JSONP, refusals, and events between two polls."""

import asyncio
import json
import signal
import socket
from itertools import pairwise
from typing import Any

import httpx
import pytest
from tests.conftest import CLUSTER
from tests.http_client import http
from tests.transports.messages import publish, texts

from channelstream.config import Settings
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.server import build
from channelstream.transports import streams as transport_streams
from channelstream.transports.longpoll import PollStream
from channelstream.wire.channelstream import V07

pytestmark = pytest.mark.nodes(1, CLUSTER)


def poll(server: Any, query: str, method: str = "GET") -> httpx.Response:
    return http.request(method, f"{server.url}/listen?{query}")


def wait_in_poll(server: Any, clients: Any, query: str) -> Any:
    """Begin a poll; it is waiting when this returns: a node answers in order of arrival where it need not fetch."""
    node = server.any
    conn_id = query.partition("&")[0]
    assert poll(node, f"{conn_id}&since=").status_code == 200  # Brings the connection to this node.
    raw = clients.raw(node.port)
    raw.send(f"GET /listen?{query} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    node.post("/info", {"info": {"channels": []}})
    return raw


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_messages_between_two_polls_are_the_next_answer(server: Any, channel: str, method: str) -> None:
    """Events between two polls, or before the first, are the next one's answer, in order."""
    query = f"conn_id={server.connect('ann', channel)}"
    publish(server, channel, "one", "two")
    assert texts(poll(server, query, method).json()) == ["one", "two"]
    publish(server, channel, "three")
    publish(server, channel, "four")
    assert texts(poll(server, query, method).json()) == ["three", "four"]


def test_a_waiting_poll_is_answered_by_the_first_message(server: Any, clients: Any, channel: str) -> None:
    """A waiting poll is answered by the first message, as JSON that no cache stores."""
    raw = wait_in_poll(server, clients, f"conn_id={server.connect('ann', channel)}")
    publish(server, channel, "at last")
    head, _, body = raw.rest().partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert b"\r\ncache-control: no-store" in head
    assert texts(json.loads(body)) == ["at last"]


def test_a_newer_poll_replaces_the_older_one(server: Any, clients: Any, channel: str) -> None:
    """The older of two polls is answered 409, the newer receives all events."""
    query = f"conn_id={server.connect('ann', channel)}"
    older, newer = wait_in_poll(server, clients, query), wait_in_poll(server, clients, query)
    head, _, body = older.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 409 ")
    assert b"access-control-allow-origin: *" in head
    assert (json.loads(body)["code"], json.loads(body)["close_code"]) == ("replaced", 4002)
    publish(server, channel, "hello")
    assert newer.rest().startswith(b"HTTP/1.1 200 ")


def test_disconnect_answers_a_waiting_poll(server: Any, clients: Any, channel: str) -> None:
    """`/disconnect` answers a waiting poll 401: its connection is gone."""
    conn_id = server.connect("ann", channel)
    raw = wait_in_poll(server, clients, f"conn_id={conn_id}")
    server.request("GET", f"/disconnect?conn_id={conn_id}")
    head, _, body = raw.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert (json.loads(body)["code"], json.loads(body)["close_code"]) == ("connection_ended", 1000)


@pytest.mark.parametrize("callback", ["cb", "a.b.c", "$_9"])
def test_jsonp_is_a_script(server: Any, channel: str, callback: str) -> None:
    """A callback gets the list as a script that cannot be read as another type."""
    query = f"conn_id={server.connect('ann', channel)}&callback={callback}"
    publish(server, channel, "hello")
    response = poll(server, query)
    assert response.headers["content-type"] == "application/javascript; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.text.startswith(f"/**/{callback}([")
    assert texts(json.loads(response.text[len(f"/**/{callback}(") : -2])) == ["hello"]


def test_jsonp_escapes_line_ends_of_scripts(server: Any, channel: str) -> None:
    """A JSONP answer has no character that ends a line of a script, and means the same text."""
    query = f"conn_id={server.connect('ann', channel)}&callback=cb"
    text = "a\u2028b\u2029c é \U0001f600"
    publish(server, channel, text)
    script = poll(server, query).content.decode()
    assert not set(script) & set("\n\r\u2028\u2029")
    assert texts(json.loads(script[len("/**/cb(") : -2])) == [text]


def test_a_script_has_the_end_of_a_poll_as_its_last_item(server: Any, clients: Any, channel: str) -> None:
    """A page sees no status of a script."""
    conn_id = server.connect("ann", channel)
    raw = wait_in_poll(server, clients, f"conn_id={conn_id}&callback=cb")
    server.request("GET", f"/disconnect?conn_id={conn_id}")
    head, _, script = raw.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    item = json.loads(script[len("/**/cb(") : -2])[-1]
    assert (item["type"], item["code"]) == ("closing", 1000)


@pytest.mark.parametrize("callback", ["", "9a", "alert(1)", "a;b", "a%0A", "a b", "%C3%A9", "a" * 129])
def test_a_bad_callback_is_refused_first(server: Any, channel: str, callback: str) -> None:
    """A callback that is no plain name is refused before anything is read from the stream."""
    conn_id = server.connect("ann", channel)
    publish(server, channel, "kept")
    assert poll(server, f"conn_id={conn_id}&callback={callback}").status_code == 422
    assert texts(poll(server, f"conn_id={conn_id}").json()) == ["kept"]


@pytest.mark.parametrize(("query", "status"), [("conn_id=x", 401), ("conn_id=%00", 401), ("", 422)])
def test_a_wrong_conn_id_is_refused_readable_for_any_page(server: Any, query: str, status: int) -> None:
    """An unknown or malformed conn_id is answered 401, a missing one 422, readable for any page."""
    response = poll(server, query)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, "*")


def test_resumed_leads_the_answer(server: Any, clients: Any, channel: str) -> None:
    """A poll with a position it can resume from waits, and its answer begins with the resumed item."""
    query = f"conn_id={server.connect('ann', channel)}"
    [resumed] = poll(server, f"{query}&since=").json()
    assert (resumed["type"], resumed["recovered"]) == ("resumed", ["", channel])
    raw = wait_in_poll(server, clients, f"{query}&since={resumed['position']}")
    publish(server, channel, "hello")
    items = json.loads(raw.rest().partition(b"\r\n\r\n")[2])
    assert [item["type"] for item in items] == ["resumed", "message"]


@pytest.mark.parametrize("since", ["other-7", "garbage", None])
def test_a_loss_is_reported_once(own_server: Any, clients: Any, since: str | None) -> None:
    """A poll from the position sent with a loss waits as always, so that no client polls in a tight loop."""
    server = own_server("--log-events", "2")
    query = f"conn_id={server.connect('ann', 'busy', 'quiet')}"
    [first] = poll(server, f"{query}&since=").json()
    publish(server, "busy", "1", "2", "3")
    [resumed] = poll(server, f"{query}&since={since or first['position']}").json()
    assert "busy" in resumed["lost"]
    raw = wait_in_poll(server, clients, f"{query}&since={resumed['position']}")
    publish(server, "busy", "next")
    again, *items = json.loads(raw.rest().partition(b"\r\n\r\n")[2])
    assert (again["lost"], texts(items)) == ([], ["next"])


def test_a_loss_is_reported_once_though_a_channel_was_joined_later(own_server: Any, clients: Any) -> None:
    """Of that channel, what came before the join is not an event that follows the loss."""
    server = own_server("--log-events", "2")
    query = f"conn_id={server.connect('ann', 'busy', 'quiet')}"
    [first] = poll(server, f"{query}&since=").json()
    server.post("/message", {"user": "test", "channel": "quiet", "message": "", "exclude_users": ["ann"]})
    publish(server, "later", "before ann")
    server.post(f"/subscribe?{query}", {"channels": ["later"]})
    publish(server, "busy", "1", "2", "3")
    [resumed] = poll(server, f"{query}&since={first['position']}").json()
    raw = wait_in_poll(server, clients, f"{query}&since={resumed['position']}")
    publish(server, "busy", "next")
    again, *items = json.loads(raw.rest().partition(b"\r\n\r\n")[2])
    assert (resumed["lost"], again["lost"], texts(items)) == (["busy"], [], ["next"])


def test_a_loss_is_reported_before_recovered_events(own_server: Any) -> None:
    """With a loss, the sent position is right before the first event that follows, so that none can be missed."""
    server = own_server("--log-events", "2")
    query = f"conn_id={server.connect('ann', 'busy', 'quiet')}"
    [first] = poll(server, f"{query}&since=").json()
    publish(server, "busy", "1", "2", "3")
    publish(server, "quiet", "recovered")
    resumed, *items = poll(server, f"{query}&since={first['position']}").json()
    assert (resumed["lost"], texts(items)) == (["busy"], ["recovered"])
    # As if that answer had been cut after its first item.
    assert texts(poll(server, f"{query}&since={resumed['position']}").json()) == ["recovered"]


def test_events_for_a_client_that_left_its_poll_are_in_the_next_answer(
    server: Any, clients: Any, channel: str
) -> None:
    """Entries read from the log for a client that left meanwhile are the next poll's answer."""
    node = server.any
    query = f"conn_id={server.connect('ann', channel)}"
    assert poll(node, f"{query}&since=").status_code == 200  # Brings the connection to this node.
    publish(node, channel, "one", "two")
    raw = clients.raw(node.port)
    node.process.suspend()
    try:
        # The node finds the request and the end of its client at the same time.
        raw.send(f"GET /listen?{query} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        raw.close()
    finally:
        node.process.send_signal(signal.SIGCONT)
    node.post("/info", {"info": {"channels": []}})
    assert texts(poll(node, query).json()) == ["one", "two"]


def test_a_client_that_left_with_bytes_behind_its_poll_gets_no_answer(
    server: Any, clients: Any, channel: str
) -> None:
    """The node has read of it only up to these bytes, and finds its end when it has an answer."""
    node = server.any
    query = f"conn_id={server.connect('ann', channel)}"
    assert poll(node, f"{query}&since=").status_code == 200  # Brings the connection to this node.
    raw = clients.raw(node.port)
    raw.send(f"GET /listen?{query} HTTP/1.1\r\nHost: test\r\n\r\n".encode() * 2)
    raw.socket.shutdown(socket.SHUT_WR)
    publish(server, channel, "one")
    assert raw.rest() == b""
    assert texts(poll(node, query).json()) == ["one"]


def test_a_message_written_to_a_closed_poll_is_in_the_next_answer() -> None:
    """An answer to a closed client is not lost: the next poll has it."""

    async def scenario() -> list[Any]:
        server = build(Settings(secret="x", admin_secret="y"))
        node, streams = server.node, server.streams
        await node.start()
        await node.connect("gone", "u", V07, {"a": {}}, UserUpdate(values={}, fresh={}))
        poll = PollStream(streams, node.hub.connections["gone"])
        poll.open(None)
        await asyncio.sleep(0)
        await node.publish([Message(uuid="m", channel="a", user="x", payload=b"1", timestamp="t")])
        node.hub.flush()

        async def gone() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def here() -> dict[str, str]:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        assert await poll.wait(gone) is None
        following = PollStream(streams, node.hub.connections["gone"])
        following.open(None)
        answer = await following.wait(here)
        assert following.buffered_bytes() == 0  # It does not keep what it has given away.
        return json.loads(answer or b"null")  # type: ignore[no-any-return]

    assert [item["uuid"] for item in asyncio.run(scenario())] == ["m"]


@pytest.mark.parametrize("timeout_s", [3600.0, 0.0])
def test_many_polls_are_answered_in_short_turns(monkeypatch: pytest.MonkeyPatch, timeout_s: float) -> None:
    """One message, or the end of the time they may wait, would otherwise answer all of them in one turn."""
    monkeypatch.setattr(transport_streams, "ANSWERS_AT_ONCE", 4)

    async def scenario() -> list[int]:
        server = build(Settings(secret="x", admin_secret="y", poll_timeout_s=timeout_s))
        node, streams = server.node, server.streams
        await node.start()
        answers = []
        for number in range(11):
            await node.connect(f"c{number}", f"u{number}", V07, {"a": {}}, UserUpdate(values={}, fresh={}))
            poll = PollStream(streams, node.hub.connections[f"c{number}"])
            poll.open(None)
            answers.append(asyncio.create_task(poll.wait(asyncio.get_running_loop().create_future)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if timeout_s:
            await node.publish([Message(uuid="m", channel="a", user="x", payload=b"1", timestamp="t")])
            node.hub.flush()
        counts = [0]
        while counts[-1] < len(answers):
            await asyncio.sleep(0)
            counts.append(sum(map(asyncio.Task.done, answers)))
        return [after - before for before, after in pairwise(counts) if after > before]

    assert asyncio.run(scenario()) == [4, 4, 3]
