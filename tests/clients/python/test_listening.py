"""Listening with the Python client: every transport, cut lines, forgotten connections, restarts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channelstream_client import (
    AsyncChannelstream,
    Event,
    Listening,
    Message,
    MessageEvent,
    Replaced,
    Resumed,
    UnknownConnection,
)
from channelstream_client.streams import (
    TRANSPORTS,
    Item,
    NotOffered,
    Place,
    Stream,
    long_poll,
    sse,
    websocket,
)
from channelstream_client.testing import Line

pytestmark = pytest.mark.nodes(1, 3)

PATIENCE_S = 20


def said(number: int) -> Message:
    return Message(user="ann", channel="py-listen", message=number)


def run(test: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


async def heard(listening: Listening) -> Any:
    """The payload of the next message."""
    while True:
        event: Event = await anext(listening)
        if isinstance(event, MessageEvent):
            return event.message


@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_cut_line_is_resumed(server: Any, stream: Stream) -> None:
    """On every transport, what was sent while the line was cut arrives once it is mended, once and in order."""

    async def test() -> None:
        line = Line(server.port)
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            listening = Listening(line.url, connection.conn_id, transports=[stream], jitter=lambda: 0.1)
            async with listening:
                assert isinstance(await anext(listening), Resumed)
                await client.publish(said(1))
                assert await heard(listening) == 1
                line.cut()
                await client.publish_many([said(2), said(3)])
                line.mend()
                resumed = await anext(listening)
                assert isinstance(resumed, Resumed)
                assert "py-listen" in resumed.recovered
                assert [await heard(listening), await heard(listening)] == [2, 3]
            await client.disconnect(connection.conn_id)
        line.close()

    run(test)


@pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
def test_any_text_arrives(server: Any, stream: Stream) -> None:
    """Characters that end a line for Python, but neither in JSON nor in an event stream, end nothing."""
    text = "one\u2028two\u2029three\x85four"

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            async with Listening(server.url, connection.conn_id, transports=[stream]) as listening:
                assert isinstance(await anext(listening), Resumed)
                await client.publish(Message(user="ann", channel="py-listen", message=text))
                assert await heard(listening) == text
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
    """A connection that is heard elsewhere is not fought for."""

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
def test_unknown_connection_is_told(server: Any, stream: Stream) -> None:
    """Without a way to get a new connection, the application hears that its own is gone."""

    async def test() -> None:
        with pytest.raises(UnknownConnection):
            await anext(Listening(server.url, "nobody", transports=[stream]))

    run(test)


def test_forgotten_connection_is_renewed(server: Any) -> None:
    """With `renew` the stream goes on with a new connection, from the old position, and nothing is missed."""

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            first = await client.connect("bob", ["py-listen"])
            await client.disconnect(first.conn_id)
            await client.publish(said(1))

            async def renew() -> str:
                return (await client.connect("bob", ["py-listen"])).conn_id

            async with client.listen(first.conn_id, since=first.position, renew=renew) as listening:
                assert await heard(listening) == 1
                assert listening.conn_id != first.conn_id

    run(test)


def test_restart_is_told_as_lost(start_server: Any) -> None:
    """A server that has forgotten everything says so: the channels are lost, and new events follow."""

    async def test() -> None:
        server = start_server()
        async with AsyncChannelstream(server.url, server.secret) as client:

            async def renew() -> str:
                return (await client.connect("bob", ["py-listen"])).conn_id

            async with client.listen(await renew(), renew=renew) as listening:
                await anext(listening)
                await client.publish(said(1))
                assert await heard(listening) == 1
                await asyncio.to_thread(server.stop)
                again = await asyncio.to_thread(start_server, "-p", str(server.port))
                resumed = await anext(listening)
                assert isinstance(resumed, Resumed)
                assert set(resumed.lost) == {"", "py-listen"}
                assert again.port == server.port
                await client.publish(said(2))
                assert await heard(listening) == 2

    run(test)


def test_next_transport_is_tried_where_one_does_not_get_through(server: Any) -> None:
    """Behind a proxy that knows no WebSockets and swallows event streams, polls do the work."""
    tried: list[str] = []

    def through(stream: Stream, opens: bool) -> Stream:
        async def observed(place: Place) -> AsyncIterator[list[Item]]:
            tried.append(stream.__name__)
            if not opens:
                raise NotOffered("answered 400")
            async for items in stream(place):
                yield items

        return observed

    async def test() -> None:
        async with AsyncChannelstream(server.url, server.secret) as client:
            connection = await client.connect("bob", ["py-listen"])
            transports = [through(websocket, False), through(sse, False), through(long_poll, True)]
            async with Listening(server.url, connection.conn_id, transports=transports) as listening:
                await anext(listening)
                await client.publish(said(1))
                assert await heard(listening) == 1

    run(test)
    assert tried[:3] == ["websocket", "sse", "long_poll"]
