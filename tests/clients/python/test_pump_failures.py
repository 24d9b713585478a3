"""The pump of a stream, with a server that is down or forgets the connection, and callbacks that fail."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.clients.python.scripted import Log, listening, numbers, run

from channelstream_client import (
    Connection,
    Down,
    Listening,
    StreamClosed,
    Unreachable,
    resuming,
    streams,
)
from channelstream_client.protocol import LOST, StreamEnded
from channelstream_client.reach import Reach
from channelstream_client.streams import Opening
from channelstream_client.testing.port import HeldPort


def test_failed_renewals_are_repeated() -> None:
    """One failure of `renew` does not end the iteration; each is reported with its cause."""
    failures = [Unreachable("no application"), TimeoutError(), asyncio.CancelledError()]
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
    assert [type(down.error) for down in downs[1:]] == [Unreachable, TimeoutError, asyncio.CancelledError]
    assert [down.reason.partition(" (")[0] for down in downs[1:]] == [
        "renew failed: no application",
        "renew failed: TimeoutError",
        "renew was cancelled from within",
    ]


def test_renewal_that_gives_nothing_is_repeated() -> None:
    """As one that fails: no stream is opened for it."""
    given: list[Any] = ["", None, 7, "new"]
    downs: list[Down] = []

    async def renew() -> str:
        return given.pop(0)  # type: ignore[no-any-return]

    async def test() -> None:
        log = Log(1, StreamEnded(4001, "expired"))
        async with listening(log.stream, renew=renew, on_down=downs.append) as events:
            assert await numbers(events, 1) == [1]
            assert log.conn_ids == ["c", "new"]

    run(test)
    assert [down.reason.partition(" (")[0] for down in downs[1:]] == [
        "renew failed: it returned an empty text",
        "renew failed: it returned NoneType",
        "renew failed: it returned int",
    ]


def test_renewal_gets_the_last_position() -> None:
    """A `renew` that takes an argument is given the position, for `connect(since=...)`."""
    given: list[str] = []

    async def renew(position: str) -> str:
        given.append(position)
        return "new"

    async def test() -> None:
        log = Log(2)

        async def forgotten(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
            async for text in log.stream(opening, reach):
                yield text
                if json.loads(text)[0]["position"] == "e-2" and opening.conn_id == "c":
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


def test_every_failed_attempt_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing listens, each attempt is logged and given to `on_down`, without the connection's id."""
    downs: list[Down] = []

    async def test() -> None:
        with HeldPort() as port, pytest.raises(Unreachable, match="after 4 attempts") as caught:
            url = f"http://127.0.0.1:{port.number}"
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


def test_wait_without_a_stream_may_be_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`give_up_after_s` ends the attempts, and no wait or attempt exceeds it: an attempt alone would take an hour."""
    monkeypatch.setattr(resuming, "OPEN_TIMEOUT_S", 3600.0)

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as discarding:  # It accepts, and says nothing.
            url = f"http://127.0.0.1:{discarding.getsockname()[1]}"
            with pytest.raises(Unreachable):
                await anext(
                    Listening(url, "c", give_up_after_s=0.1, transports=[streams.websocket, streams.sse])
                )

    run(test)


def test_the_counter_of_a_bound_ends_with_its_stream() -> None:
    """Attempts that failed before a stream opened do not count for the next interruption."""

    async def test() -> None:
        log = Log(1, *[StreamEnded(LOST, "cut")] * 2)

        async def twice(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
            async for text in log.stream(opening, reach):
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
        async def closing(opening: Opening, reach: Reach) -> AsyncIterator[str]:
            yield json.dumps([{"type": "closing", "code": 1013, "reason": "full"}])

        with pytest.raises(Unreachable, match="after 3 attempts: full"):
            await anext(listening(closing, attempts=3))

    run(test)
