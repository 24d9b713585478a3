"""The pump of a stream: with a slow, cancelled or closed reader, and several transports."""

import asyncio
import gc
import json
import socket
import weakref
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.clients.python.scripted import RESUMED, Log, listening, message, numbers, run, until
from tests.waiting import soon
from websockets.asyncio.server import ServerConnection, serve

from channelstream_client import (
    AsyncChannelstream,
    BadAnswer,
    Listening,
    MessageEvent,
    Resumed,
    UnknownConnection,
    inbox,
    pump,
    reconnect,
    resuming,
    streams,
)
from channelstream_client.protocol import LOST, StreamEnded, refused
from channelstream_client.reach import Reach
from channelstream_client.streams import Opening


@pytest.mark.parametrize("cancel", ["wait_for", "move_on_after", "cancel"])
def test_cancelled_wait_loses_nothing(cancel: str) -> None:
    """A wait for the next event that is cancelled ends neither the stream nor the iteration."""

    async def test() -> None:
        log = Log(1)
        async with listening(log.stream) as events:
            assert await numbers(events, 1) == [1]
            if cancel == "wait_for":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.01)
            elif cancel == "move_on_after":
                with anyio.move_on_after(0.01):
                    await anext(events)
            else:
                waiting = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
            await log.grow(3)
            assert await numbers(events, 3) == [2, 3]
            assert log.asked == [""]

    run(test)


def test_another_task_may_close_it() -> None:
    """`aclose` ends a wait of another task as the end of the iteration, and closes the stream."""

    async def test() -> None:
        log = Log(1)
        events = listening(log.stream)
        assert await numbers(events, 1) == [1]
        waiting = asyncio.ensure_future(anext(events, "the end"))
        await asyncio.sleep(0)
        await events.aclose()
        assert await waiting == "the end"
        assert (await anext(events, "the end"), events.position, log.open) == ("the end", "e-1", 0)

    run(test)


def test_position_is_that_of_the_last_event_handed_out() -> None:
    """Events that arrived and were not read do not count, so `listen(since=position)` brings them again."""

    async def test() -> None:
        log = Log(5)
        events = listening(log.stream)
        await numbers(events, 2)
        await events.aclose()
        async with listening(log.stream, since=events.position) as again:
            assert await numbers(again, 5) == [3, 4, 5]

    run(test)


def test_iteration_that_is_left_closes_its_stream() -> None:
    """Without `async with`, a listening without a reference is closed."""

    async def test() -> None:
        log = Log(1)
        events: Listening | None = listening(log.stream)
        assert events is not None
        await anext(events)
        gone = weakref.ref(events)
        events = None
        gc.collect()
        assert gone() is None
        await until(lambda: log.open == 0)

    run(test)


def test_slow_reader_loses_nothing_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading pauses at a full inbox, then later events are dropped, and they arrive again once the inbox is empty."""
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)
    monkeypatch.setattr(pump, "PATIENCE_S", 0.01)

    async def test() -> None:
        log = Log(100)
        sent = 0

        async def counted(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
            nonlocal sent
            async for text in log.stream(opening, reach):
                sent += 1
                yield text

        async with listening(counted) as events:
            assert await numbers(events, 1) == [1]
            # The handler of the first event works; all the rest is sent meanwhile.
            await soon(lambda: sent >= 101)
            assert len(events._inbox._events) == 10
            assert await numbers(events, 100) == list(range(2, 101))
            assert len(log.asked) > 1

    run(test)


def test_slow_reader_of_polls_keeps_polling_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls go on while the reader works, as the server ends a connection without one; then all arrives again."""
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)
    monkeypatch.setattr(pump, "PATIENCE_S", 0.01)

    async def test() -> None:
        log = Log(100)
        async with listening(log.poll) as events:
            assert await numbers(events, 1) == [1]
            await soon(lambda: log.asked[-1] == "e-100")
            assert len(events._inbox._events) <= 11
            assert await numbers(events, 100) == list(range(2, 101))

    run(test)


def test_slow_reader_that_is_done_between_two_polls_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discarded events arrive again although no poll is under way when the reader has taken the others."""
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)
    monkeypatch.setattr(pump, "PATIENCE_S", 0.01)
    monkeypatch.setattr(resuming, "SHORTEST_POLL_S", 0.05)

    async def test() -> None:
        log = Log(30)

        async def impatient(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
            if opening.position == "e-30":
                log.asked.append(opening.position)
                yield "[]"
            else:
                async for text in log.poll(opening, reach):
                    yield text

        async with listening(impatient) as events:
            assert await numbers(events, 1) == [1]
            await soon(lambda: log.asked[-2:] == ["e-30", "e-30"])
            assert await numbers(events, 30) == list(range(2, 31))

    run(test)


def test_slow_reader_that_is_done_as_a_poll_ends_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discarded events arrive again although the poll ends in the turn in which the reader has taken the others."""
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)
    monkeypatch.setattr(pump, "PATIENCE_S", 0.01)

    async def test() -> None:
        log, answer = Log(30), asyncio.Event()

        async def waiting(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
            if opening.position == "e-30":
                log.asked.append(opening.position)
                await answer.wait()
                yield "[]"
            else:
                async for text in log.poll(opening, reach):
                    yield text

        async with listening(waiting) as events:
            assert await numbers(events, 1) == [1]
            await soon(lambda: log.asked[-1] == "e-30")
            got = await numbers(events, 10)
            while len(events._inbox._events) > 1:
                got += await numbers(events, got[-1] + 1)
            answer.set()
            assert got + await numbers(events, 30) == list(range(2, 31))

    run(test)


def test_reader_that_takes_all_as_patience_ends_gets_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inbox is empty again before the stream finds that it was full for too long: nothing is dropped."""
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)

    async def test() -> None:
        log = Log(10)
        async with listening(log.stream) as events:
            await anext(events)
            await until(lambda: events._inbox.is_full)
            patience[-1].reschedule(asyncio.get_running_loop().time())
            await until(patience[-1].expired)
            assert await numbers(events, 10) == list(range(1, 11))
            await log.grow(12)
            assert await numbers(events, 12) == [11, 12]

    patience: list[asyncio.Timeout] = []
    timeout = asyncio.timeout

    def recorded(delay: float | None) -> asyncio.Timeout:
        made = timeout(delay)
        if delay == pump.PATIENCE_S:
            patience.append(made)
        return made

    monkeypatch.setattr(asyncio, "timeout", recorded)
    run(test)


def test_inbox_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few large events fill the inbox as well as many small ones."""
    monkeypatch.setattr(inbox, "MAX_BYTES", 1_000)

    async def test() -> None:
        log = Log(100)
        async with listening(log.stream) as events:
            await anext(events)
            await until(lambda: events._inbox.is_full)
            assert events._inbox._bytes <= 1_000 + len(json.dumps([message(100)]))
            assert await numbers(events, 100) == list(range(1, 101))
            assert log.asked == [""]

    run(test)


def test_pings_are_answered_while_the_reader_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without a pong ends the connection; a handler of 70 s does not delay the pong."""
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)
    monkeypatch.setattr(pump, "PATIENCE_S", 0.01)

    async def test() -> None:
        pongs, codes = asyncio.Event(), asyncio.Queue[int | None]()

        async def speak(connection: ServerConnection) -> None:
            await connection.send(json.dumps([RESUMED]))
            for number in range(1, 51):  # More than the inbox and all queues on the way hold.
                await connection.send(json.dumps([message(number)]))
            await (await connection.ping())
            pongs.set()
            await connection.wait_closed()
            codes.put_nowait(connection.close_code)

        async with serve(speak, "127.0.0.1", 0, ping_interval=None) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            async with Listening(url, "c", transports=[streams.websocket]) as events:
                await anext(events)
                await pongs.wait()
            # With 1000 it would say that it does not come back, and the server would end the connection.
            assert await codes.get() == 1001

    run(test)


def test_lesser_transport_is_left_for_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's 404 or 429 leads to the long poll; after a while the WebSocket is used again, with nothing lost."""
    monkeypatch.setattr(reconnect, "FIRST_UPGRADE_S", 0.01)

    async def test() -> None:
        best = Log(3, StreamEnded(LOST, "answered 404", status=404), refused(429, "", b"", 0.0))
        least = Log(2)
        async with listening(best.stream, least.stream) as events:
            assert await numbers(events, 3) == [1, 2, 3]
            assert least.open == 0

    run(test)


def test_polls_say_once_that_they_resume() -> None:
    """Every poll begins with `resumed`: it is handed out once, and again only if more is lost."""

    async def test() -> None:
        loss = {**RESUMED, "lost": ["news"], "position": "e-1"}

        async def polls(opening: Opening, reach: Reach) -> AsyncIterator[str]:
            yield json.dumps([RESUMED])
            yield json.dumps([RESUMED, message(1)])
            yield json.dumps([loss])
            yield json.dumps([loss, message(2)])
            raise StreamEnded(1000, "")

        kinds = [type(event) async for event in listening(polls)]
        assert kinds == [Resumed, MessageEvent, Resumed, MessageEvent]

    run(test)


def test_event_that_cannot_be_read_ends_it_after_those_before() -> None:
    """A malformed item is an error, after the earlier ones were returned."""

    async def test() -> None:
        async def broken(opening: Opening, reach: Reach) -> AsyncIterator[str]:
            yield json.dumps([RESUMED])
            yield json.dumps([{"type": "message"}])

        events = listening(broken)
        assert isinstance(await anext(events), Resumed)
        with pytest.raises(BadAnswer):
            await anext(events)

    run(test)


def test_connection_that_is_forgotten_ends_it_without_renewal() -> None:
    """The cause of the error is the end of the stream."""

    async def test() -> None:
        with pytest.raises(UnknownConnection) as caught:
            await anext(listening(Log(0, StreamEnded(4001, "expired")).stream))
        assert isinstance(caught.value.__cause__, StreamEnded)

    run(test)


def test_listening_starts_with_the_first_wait() -> None:
    """A listening that is not iterated opens nothing, and can be closed."""

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            client = AsyncChannelstream(f"http://127.0.0.1:{server.getsockname()[1]}", "s")
            await client.listen("c").aclose()
            await client.close()
            with pytest.raises(BlockingIOError):  # Nobody has connected.
                server.accept()

    run(test)
