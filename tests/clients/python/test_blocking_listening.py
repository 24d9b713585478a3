"""Listening with the Python client without asyncio."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.waiting import PATIENCE_S, soon

from channelstream_client import Channelstream, Connection, Message, MessageEvent, Resumed, UnknownConnection
from channelstream_client.blocking import in_a_thread

pytestmark = pytest.mark.nodes(1)


def test_events_are_iterated_without_asyncio(server: Any) -> None:
    """Without asyncio, events are iterated, waited for with a bound, and end with the connection."""
    with Channelstream(server.url, server.secret) as client:
        connection = client.connect("bob", ["py-blocking"])
        with client.listen(connection.conn_id) as events:
            assert isinstance(next(events), Resumed)
            with pytest.raises(TimeoutError):
                events.get(0.01)
            client.publish(Message(user="ann", channel="py-blocking", message=1))
            event = events.get(PATIENCE_S)
            assert isinstance(event, MessageEvent)
            assert (event.message, events.position) == (1, event.position)
            client.disconnect(connection.conn_id)
            assert list(events) == []
            assert events.get(PATIENCE_S) is None


def test_blocking_iteration_misses_nothing_after_connect(server: Any) -> None:
    """The answer of `connect` is listened to from its position, as by the awaited twin."""
    with Channelstream(server.url, server.secret) as client:
        connection = client.connect("bob", ["py-blocking"])
        client.publish(Message(user="ann", channel="py-blocking", message=1))
        with client.listen(connection) as events:
            assert (events.conn_id, events.position) == (connection.conn_id, connection.position)
            assert isinstance(next(events), Resumed)
            event = next(events)
            assert isinstance(event, MessageEvent) and event.message == 1
        client.disconnect(connection.conn_id)


def test_blocking_iteration_is_closed_from_another_thread(server: Any) -> None:
    """`close` ends a wait of another thread, and the thread that reads the stream."""
    with Channelstream(server.url, server.secret) as client:
        connection = client.connect("bob", ["py-blocking"])
        events = client.listen(connection.conn_id)
        assert isinstance(next(events), Resumed)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(list, events)
            events.close()
            assert waiting.result(PATIENCE_S) == []
        assert not [thread for thread in threading.enumerate() if thread.name == "channelstream-listen"]
        assert list(events) == []
        client.disconnect(connection.conn_id)


def test_blocking_renewal_and_errors(server: Any) -> None:
    """`renew` is a plain function that may call the same client; the errors are those of the awaited twin."""
    with Channelstream(server.url, server.secret) as client:

        def renew(position: str) -> Connection:
            return client.connect("bob", ["py-blocking"], since=position)

        with client.listen("nobody", renew=renew) as events:
            assert isinstance(next(events), Resumed)
            assert events.conn_id != "nobody"
            client.disconnect(events.conn_id)
        with client.listen("nobody") as events, pytest.raises(UnknownConnection):
            next(events)
        never = client.listen("nobody")
        never.close()
        assert list(never) == []


def test_a_renewal_may_close_its_iteration(server: Any) -> None:
    """`close` waits for the thread that reads, which does not wait for `renew`."""
    closed = threading.Event()

    def renew() -> str:
        events.close()
        closed.set()
        return "c"

    with Channelstream(server.url, server.secret) as client:
        events = client.listen("nobody", renew=renew)
        assert list(events) == []
    assert closed.wait(PATIENCE_S)


def test_a_renewal_that_does_not_return_keeps_nobody_waiting(server: Any) -> None:
    """Neither `close`, nor the end of the program: its thread is a daemon."""
    began, goes_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def renew() -> str:
        threads.append(threading.current_thread())
        began.set()
        goes_on.wait(PATIENCE_S)
        return "c"

    with Channelstream(server.url, server.secret) as client:
        with client.listen("nobody", renew=renew) as events:
            with pytest.raises(TimeoutError):
                events.get(0.01)
            assert began.wait(PATIENCE_S)
        (thread,) = threads
        assert thread.daemon and thread.is_alive()
        goes_on.set()
        thread.join(PATIENCE_S)


def test_a_renewal_is_not_called_again_before_it_returns() -> None:
    """However often the client has given up waiting for it, it has one thread."""
    goes_on = threading.Event()
    renewed = in_a_thread(lambda: "c" if goes_on.wait(PATIENCE_S) else "late")

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(renewed("p"), 0.01)
        with pytest.raises(RuntimeError, match="not returned"):
            await renewed("p")
        goes_on.set()
        await soon(lambda: "channelstream-renew" not in {thread.name for thread in threading.enumerate()})
        assert await renewed("p") == "c"

    asyncio.run(ask())


def test_own_blocking_http_client_carries_no_stream() -> None:
    """A stream needs an asynchronous client; a blocking one raises instead of being ignored."""
    with httpx.Client() as http, pytest.raises(ValueError, match=r"httpx\.AsyncClient"):
        Channelstream("http://127.0.0.1:9", "s", http=http).listen("c")
    with httpx.Client() as http, pytest.raises(ValueError, match="verify"):
        Channelstream("http://127.0.0.1:9", "s", http=http, verify=False)
