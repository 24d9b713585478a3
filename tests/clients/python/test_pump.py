"""The pump of a stream: with a slow, cancelled or closed reader, a server that is down, and failing callbacks."""

import asyncio
import gc
import json
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import pytest
from tests.waiting import PATIENCE_S, soon
from websockets.asyncio.server import ServerConnection, serve

from channelstream_client import (
    AsyncChannelstream,
    BadAnswer,
    Connection,
    Down,
    Event,
    Listening,
    MessageEvent,
    Resumed,
    StreamClosed,
    UnknownConnection,
    Unreachable,
    inbox,
    pump,
    reconnect,
    streams,
)
from channelstream_client.streams import LOST, Stream, StreamEnded, StreamTarget

URL = "http://127.0.0.1:9"


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


def message(number: int) -> dict[str, Any]:
    return {
        "type": "message",
        "uuid": str(number),
        "channel": "news",
        "user": "ann",
        "timestamp": "2026-01-01T00:00:00",
        "message": number,
        "position": f"e-{number}",
    }


RESUMED = {"type": "resumed", "position": "e-0", "recovered": ["news"], "lost": []}


class Log:
    """A server in a few lines: streams begin behind the position that is asked for, and wait at the end.

    Attributes:
        size: how many messages there are, numbered from 1.
        acts: what the next streams do first: raise this.
        asked: the positions that streams began at.
    """

    def __init__(self, size: int = 0, *acts: StreamEnded) -> None:
        self.size = size
        self.acts = list(acts)
        self.asked: list[str] = []
        self.conn_ids: list[str] = []
        self.open = 0
        self.grown = asyncio.Condition()

    async def stream(self, target: StreamTarget) -> AsyncIterator[str]:
        self.asked.append(target.position)
        self.conn_ids.append(target.conn_id)
        if self.acts:
            raise self.acts.pop(0)
        self.open += 1
        try:
            yield json.dumps([{**RESUMED, "position": target.position or "e-0"}])
            for number in count(int(target.position.partition("-")[2] or 0) + 1):
                async with self.grown:
                    await self.grown.wait_for(lambda number=number: self.size >= number)
                yield json.dumps([message(number)])
        finally:
            self.open -= 1

    async def grow(self, size: int) -> None:
        async with self.grown:
            self.size = size
            self.grown.notify_all()


def listening(*transports: Stream, **options: Any) -> Listening:
    return Listening(URL, "c", transports=transports, jitter=lambda: 0.0, **options)


async def numbers(events: Listening, up_to: int) -> list[int]:
    """Return the payloads of the next messages, up to one of them."""
    got: list[int] = []
    while not got or got[-1] != up_to:
        event: Event = await anext(events)
        if isinstance(event, MessageEvent):
            got.append(event.message)
    return got


async def until(condition: Callable[[], bool]) -> None:
    """Run the loop until a condition holds."""
    while not condition():
        await asyncio.sleep(0)


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

        async def counted(target: StreamTarget) -> AsyncIterator[str | bytes]:
            nonlocal sent
            async for text in log.stream(target):
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


def test_failed_renewals_are_repeated() -> None:
    """One failure of `renew` does not end the iteration; each is reported with its cause."""
    failures = [Unreachable("no application"), KeyError("bug"), asyncio.CancelledError()]
    downs: list[Down] = []

    async def renew() -> str:
        if failures:
            raise failures.pop(0)
        return "new"

    async def test() -> None:
        log = Log(1, StreamEnded(4001, "expired"))
        async with listening(log.stream, renew=renew, on_down=downs.append) as events:
            assert await numbers(events, 1) == [1]
            assert (events.conn_id, log.conn_ids) == ("new", ["c", "new"])

    run(test)
    assert [down.code for down in downs] == [4001, LOST, LOST, LOST]
    assert [type(down.error) for down in downs[1:]] == [Unreachable, KeyError, asyncio.CancelledError]


def test_renewal_gets_the_last_position() -> None:
    """A `renew` that takes an argument is given the position, for `connect(since=...)`."""
    given: list[str] = []

    async def renew(position: str) -> str:
        given.append(position)
        return "new"

    async def test() -> None:
        log = Log(2)

        async def forgotten(target: StreamTarget) -> AsyncIterator[str | bytes]:
            async for text in log.stream(target):
                yield text
                if json.loads(text)[0]["position"] == "e-2" and target.conn_id == "c":
                    raise StreamEnded(4001, "expired")

        async with listening(forgotten, renew=renew) as events:
            await numbers(events, 2)
            await log.grow(3)
            assert await numbers(events, 3) == [3]
        assert log.asked == ["", "e-2"]

    run(test)
    assert given == ["e-2"]


def test_renewal_may_give_a_connection_or_end_it() -> None:
    """`renew` may return what `connect` returned; with a `StreamClosed` the application ends the iteration."""
    connection = Connection(
        conn_id="new", username="bob", state={}, public_state={}, status=0, channels=[], channels_info=None,  # type: ignore[arg-type]
        position="e-1",
    )  # fmt: skip

    async def renew() -> Connection:
        return connection

    async def refuse() -> str:
        raise StreamClosed(4001, "logged out")

    async def test() -> None:
        log = Log(2, StreamEnded(4001, "expired"))
        async with listening(log.stream, renew=renew) as events:
            assert await numbers(events, 2) == [2]
        with pytest.raises(StreamClosed, match="logged out"):
            await anext(listening(Log(2, StreamEnded(4001, "expired")).stream, renew=refuse))

    run(test)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_every_failed_attempt_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing listens, each attempt is logged and given to `on_down`, without the connection's id."""
    downs: list[Down] = []

    async def test() -> None:
        url = f"http://127.0.0.1:{closed_port()}"
        with pytest.raises(Unreachable, match="after 4 attempts") as caught:
            events = Listening(url, "secret-id", attempts=4, on_down=downs.append, jitter=lambda: 0.0)
            await anext(events)
        assert isinstance(caught.value.__cause__, StreamEnded)
        assert await anext(events, None) is None

    with caplog.at_level(logging.WARNING, "channelstream_client"):
        run(test)
    assert [down.attempt for down in downs] == [1, 2, 3]
    assert isinstance(downs[0].error, OSError)
    lines = [record.getMessage() for record in caplog.records if record.name == "channelstream_client"]
    assert len(lines) == 3
    assert "attempt 2" in lines[1]
    assert "secret-id" not in "".join(lines)


def test_fault_of_on_down_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the application's handler of an end does not end the iteration."""

    def fail(down: Down) -> None:
        raise KeyError("bug")

    async def test() -> None:
        async with listening(Log(1, StreamEnded(LOST, "cut")).stream, on_down=fail) as events:
            assert await numbers(events, 1) == [1]

    run(test)
    assert "on_down failed" in caplog.text


def test_wait_without_a_stream_may_be_bounded() -> None:
    """`give_up_after_s` ends the attempts, and no wait or attempt exceeds it."""

    async def test() -> None:
        began = asyncio.get_running_loop().time()
        with socket.create_server(("127.0.0.1", 0)) as discarding:  # It accepts, and says nothing.
            url = f"http://127.0.0.1:{discarding.getsockname()[1]}"
            with pytest.raises(Unreachable):
                await anext(
                    Listening(url, "c", give_up_after_s=0.1, transports=[streams.websocket, streams.sse])
                )
        assert asyncio.get_running_loop().time() - began < 2

    run(test)


def test_the_counter_of_a_bound_ends_with_its_stream() -> None:
    """Attempts that failed before a stream opened do not count for the next interruption."""

    async def test() -> None:
        log = Log(1, *[StreamEnded(LOST, "cut")] * 2)

        async def twice(target: StreamTarget) -> AsyncIterator[str | bytes]:
            async for text in log.stream(target):
                yield text
                if json.loads(text)[0].get("message") == 1:
                    log.acts += [StreamEnded(LOST, "cut")]
                    raise StreamEnded(LOST, "cut")

        async with listening(twice, attempts=3) as events:
            assert await numbers(events, 1) == [1]
            await log.grow(2)
            assert await numbers(events, 2) == [2]

    run(test)


def test_stream_that_only_says_why_it_ends_is_a_failed_attempt() -> None:
    """A server that accepts every stream and closes it at once does not reset the bound."""

    async def test() -> None:
        async def closing(target: StreamTarget) -> AsyncIterator[str]:
            yield json.dumps([{"type": "closing", "code": 1013, "reason": "full"}])

        with pytest.raises(Unreachable, match="after 3 attempts: full"):
            await anext(listening(closing, attempts=3))

    run(test)


def test_lesser_transport_is_left_for_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's 404 or 429 leads to the long poll; after a while the WebSocket is used again, with nothing lost."""
    monkeypatch.setattr(reconnect, "FIRST_UPGRADE_S", 0.01)

    async def test() -> None:
        best = Log(3, StreamEnded(LOST, "answered 404", status=404), streams.refused(429, ""))
        least = Log(2)
        async with listening(best.stream, least.stream) as events:
            assert await numbers(events, 3) == [1, 2, 3]
            assert least.open == 0

    run(test)


def test_polls_say_once_that_they_resume() -> None:
    """Every poll begins with `resumed`: it is handed out once, and again only if more is lost."""

    async def test() -> None:
        loss = {**RESUMED, "lost": ["news"], "position": "e-1"}

        async def polls(target: StreamTarget) -> AsyncIterator[str]:
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
        async def broken(target: StreamTarget) -> AsyncIterator[str]:
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
        client = AsyncChannelstream(URL, "s")
        await client.listen("c").aclose()
        await client.close()

    run(test)


def test_refusal_says_why_in_its_body() -> None:
    """The close code of the server's own answer counts before the status; a proxy's page does not."""
    own = streams.refused(503, "7", b'{"error": "slow", "close_code": 4008}')
    assert (own.code, own.reason, own.retry_after_s, own.status) == (4008, "slow", 7, None)
    for body in (b"<html>", b"[]", b'{"close_code": "4008"}', b"\xff", b""):
        assert (streams.refused(503, "", body).code, streams.refused(404, "", body).status) == (1013, 404)
