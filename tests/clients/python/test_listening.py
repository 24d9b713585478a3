"""Listening with the Python client: every transport, cut lines, forgotten connections, restarts."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from tests.conftest import CLUSTER
from tests.waiting import PATIENCE_S

from channelstream_client import (
    Acting,
    AsyncChannelstream,
    Channelstream,
    Connection,
    Down,
    Event,
    Listening,
    Message,
    MessageEvent,
    Replaced,
    Resumed,
    Retries,
    UnknownConnection,
    Unreachable,
    reach,
)
from channelstream_client.protocol import LOST, StreamEnded
from channelstream_client.reach import Reach
from channelstream_client.streams import BY_HTTP, TRANSPORTS, Opening, Stream, long_poll, sse, websocket
from channelstream_client.testing import Line

pytestmark = pytest.mark.nodes(1, CLUSTER)

LARGE = 1 << 18
SILENCE_S = 1.0


def said(number: int) -> Message:
    return Message(user="ann", channel="py-listen", message=number)


def run(test: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


async def received(listening: Listening) -> Any:
    """The payload of the next message."""
    while True:
        event: Event = await anext(listening)
        if isinstance(event, MessageEvent):
            return event.message


@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_cut_line_is_resumed(server: Any, stream: Stream) -> None:
    """On every transport, messages sent while the line was cut arrive once and in order after it is mended."""

    async def test() -> None:
        line = Line(server.port)
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            listening = Listening(line.url, connection.conn_id, transports=[stream], jitter=lambda: 0.1)
            async with listening:
                assert isinstance(await anext(listening), Resumed)
                await client.publish(said(1))
                assert await received(listening) == 1
                line.cut()
                await client.publish_many([said(2), said(3)])
                line.mend()
                resumed = await anext(listening)
                assert isinstance(resumed, Resumed)
                assert "py-listen" in resumed.recovered
                assert [await received(listening), await received(listening)] == [2, 3]
            await client.disconnect(connection.conn_id)
        line.close()

    run(test)


@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_nothing_is_missed_between_connect_and_listen(server: Any, stream: Stream) -> None:
    """On every transport, the answer of `connect` is listened to from its position; a `since` counts before that."""

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            await client.publish(said(1))
            async with Listening(server.url, connection, transports=[stream]) as listening:
                assert listening.position == connection.position
                assert await received(listening) == 1
                first = listening.position
            await client.publish(said(2))
            async with Listening(server.url, connection, since=first, transports=[stream]) as listening:
                assert await received(listening) == 2
            async with client.listen(connection) as listening:
                assert [await received(listening), await received(listening)] == [1, 2]
            await client.disconnect(connection.conn_id)

    run(test)


@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_any_text_arrives(server: Any, stream: Stream) -> None:
    """Characters that end a line in Python, but neither in JSON nor in an event stream, end nothing."""
    text = "one\u2028two\u2029three\x85four"

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            async with Listening(server.url, connection.conn_id, transports=[stream]) as listening:
                assert isinstance(await anext(listening), Resumed)
                await client.publish(Message(user="ann", channel="py-listen", message=text))
                assert await received(listening) == text
            await client.disconnect(connection.conn_id)

    run(test)


def test_end_on_purpose_ends_the_iteration(server: Any) -> None:
    """After `/disconnect` the loop is over, without an error."""

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            async for event in client.listen(connection.conn_id):
                assert isinstance(event, Resumed)
                await client.disconnect(connection.conn_id)

    run(test)


def test_newer_stream_ends_the_older(server: Any) -> None:
    """A stream that was replaced by a newer one does not reconnect."""

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            async with client.listen(connection.conn_id) as older, client.listen(connection.conn_id) as newer:
                await anext(older)
                await anext(newer)
                with pytest.raises(Replaced):
                    await anext(older)

    run(test)


@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_unknown_connection_is_reported(server: Any, stream: Stream) -> None:
    """Without a way to get a new connection, the application is informed that its own is gone."""

    async def test() -> None:
        with pytest.raises(UnknownConnection):
            await anext(Listening(server.url, "nobody", transports=[stream]))

    run(test)


def test_forgotten_connection_is_renewed(server: Any) -> None:
    """With `renew` the stream continues with a new connection, from the old position, and nothing is missed."""

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            first = await client.connect("bob", ["py-listen"])
            await client.disconnect(first.conn_id)
            await client.publish(said(1))

            async def renew(position: str) -> Connection:
                return await client.connect("bob", ["py-listen"], since=position)

            async with client.listen(first.conn_id, since=first.position, renew=renew) as listening:
                assert await received(listening) == 1
                assert listening.conn_id != first.conn_id

    run(test)


def test_restart_is_reported_as_lost(start_server: Any, port: str) -> None:
    """After a restart without data the channels are reported lost, and new events follow."""

    async def test() -> None:
        server = start_server("-p", port)
        async with AsyncChannelstream(server.url, server.secret) as client:

            async def renew() -> str:
                return (await client.connect("bob", ["py-listen"])).conn_id

            made = await renew()
            async with Listening(server.url, made, renew=renew, jitter=lambda: 0.1) as listening:
                await anext(listening)
                await client.publish(said(1))
                assert await received(listening) == 1
                await asyncio.to_thread(server.stop)
                again = await asyncio.to_thread(start_server, "-p", port)
                resumed = await anext(listening)
                assert isinstance(resumed, Resumed)
                assert set(resumed.lost) == {"", "py-listen"}
                assert again.port == server.port
                await client.publish(said(2))
                assert await received(listening) == 2

    run(test)


def test_next_transport_is_tried_where_one_does_not_get_through(server: Any) -> None:
    """Behind a proxy that refuses WebSockets and buffers event streams, polls are used."""
    tried: list[str] = []

    def through(stream: Stream, opens: bool) -> Stream:
        async def observed(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
            tried.append(stream.__name__)
            if not opens:
                raise StreamEnded(LOST, "answered 400", status=400)
            async for items in stream(opening, reach):
                yield items

        return observed

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            transports = [through(websocket, False), through(sse, False), through(long_poll, True)]
            async with Listening(server.url, connection.conn_id, transports=transports) as listening:
                await anext(listening)
                await client.publish(said(1))
                assert await received(listening) == 1

    run(test)
    assert tried[:3] == ["websocket", "sse", "long_poll"]


@pytest.mark.slow
@pytest.mark.nodes(1)
@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_large_message_on_a_slow_line_is_not_cut(server: Any, stream: Stream) -> None:
    """A message that takes longer than the longest silence is not cut while bytes arrive; else it would never be whole."""

    async def test() -> None:
        line = Line(server.port)
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            listening = Listening(
                line.url, connection.conn_id, transports=[stream], silence_s=SILENCE_S, jitter=lambda: 0.0
            )
            async with listening:
                assert isinstance(await anext(listening), Resumed)
                line.throttle(bytes_per_s=LARGE / (2.5 * SILENCE_S))
                began = time.monotonic()
                await client.publish(Message(user="ann", channel="py-listen", message="x" * LARGE))
                assert len(await received(listening)) == LARGE
                assert time.monotonic() - began > 1.5 * SILENCE_S
            await client.disconnect(connection.conn_id)
        line.close()

    run(test)


@pytest.mark.nodes(1)
@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_silent_line_is_given_up(server: Any, stream: Stream) -> None:
    """A line without any bytes is taken for lost, and the stream continues on another."""

    async def test() -> None:
        line = Line(server.port)
        down = asyncio.Event()
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            listening = Listening(
                line.url,
                connection.conn_id,
                transports=[stream],
                silence_s=0.2,
                on_down=lambda _: down.set(),
                jitter=lambda: 0.0,
            )
            async with listening:
                assert isinstance(await anext(listening), Resumed)
                line.stall()
                await client.publish(said(1))
                await down.wait()
                line.flow()
                assert await received(listening) == 1
            await client.disconnect(connection.conn_id)
        line.close()

    run(test)


@pytest.mark.nodes(1)
def test_polls_share_one_client(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls use one HTTP client, as making one costs more than many polls."""
    made: list[httpx.AsyncClient] = []

    class Counted(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(reach.httpx, "AsyncClient", Counted)

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            made.clear()
            async with Listening(server.url, connection.conn_id, transports=[long_poll]) as listening:
                assert isinstance(await anext(listening), Resumed)
                for number in range(5):
                    await client.publish(said(number))
                    assert await received(listening) == number
            await client.disconnect(connection.conn_id)
        assert len(made) == 1
        assert made[0].is_closed

    run(test)


@pytest.mark.nodes(1)
@pytest.mark.parametrize("stream", BY_HTTP, ids=lambda stream: stream.__name__)
def test_logs_do_not_hold_the_id(server: Any, stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    """The line that httpx logs for each request leaves out the id, which is a credential."""

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"], conn_id="a-secret-id")
            async with Listening(server.url, connection.conn_id, transports=[stream]) as listening:
                await anext(listening)
            await client.disconnect(connection.conn_id)

    with caplog.at_level(logging.INFO):
        run(test)
    assert "a-secret-id" not in caplog.text
    assert "conn_id=...&since=" in caplog.text


@pytest.mark.nodes(1)
def test_own_http_client_carries_the_stream(server: Any) -> None:
    """With `http`, listening goes through it, by SSE; the client stays open."""
    asked: list[str] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    async def test() -> None:
        async with httpx.AsyncClient(event_hooks={"request": [note]}, timeout=PATIENCE_S) as http:
            client = AsyncChannelstream(server.url, server.secret, http=http)
            connection = await client.connect("bob", ["py-listen"])
            async with client.listen(connection.conn_id) as listening:
                assert isinstance(await anext(listening), Resumed)
            await client.disconnect(connection.conn_id)
            assert asked == ["/connect", "/sse", "/disconnect"]

    run(test)


@pytest.mark.nodes(1)
def test_wrong_path_is_reported(server: Any) -> None:
    """Where no stream is served, each transport is tried, and every attempt has the answer of the server."""
    downs: list[Down] = []

    async def test() -> None:
        url = server.url + "/elsewhere"
        with pytest.raises(Unreachable, match="404"):
            await anext(Listening(url, "c", attempts=4, on_down=downs.append, jitter=lambda: 0.0))

    run(test)
    assert [down.reason for down in downs] == ["answered 404 (1006)"] * 3


def test_certificates_are_checked(start_server: Any, certificate: tuple[str, str]) -> None:
    """A certificate that is not trusted is reported on every transport; with `verify` calls and streams trust it."""
    cert, key = certificate
    server = start_server("--ssl-certfile", cert, "--ssl-keyfile", key)
    url = f"https://127.0.0.1:{server.port}"
    with (
        Channelstream(url, server.secret, retries=Retries(attempts=1)) as blocking,
        pytest.raises(Unreachable, match=r"(?i)certificate"),
    ):
        blocking.info()
    downs: list[Down] = []

    async def get_token() -> str:
        return "a-token"

    async def test() -> None:
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await anext(Listening(url, "c", attempts=4, on_down=downs.append, jitter=lambda: 0.0))
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await anext(Acting(url, get_token, attempts=1))
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await AsyncChannelstream(url, server.secret, retries=Retries(attempts=1)).info()
        async with AsyncChannelstream(url, server.secret, verify=cert) as client:
            connection = await client.connect("bob", ["py-listen"])
            async with client.listen(connection.conn_id) as listening:
                assert isinstance(await anext(listening), Resumed)
            context = ssl.create_default_context(cafile=cert)
            for stream in TRANSPORTS:
                reached = Listening(
                    url, connection.conn_id, transports=[stream], reach=Reach(lambda: context)
                )
                async with reached:
                    assert isinstance(await anext(reached), Resumed)

    run(test)
    assert len(downs) == 3
    assert all("certificate" in down.reason.lower() for down in downs)
