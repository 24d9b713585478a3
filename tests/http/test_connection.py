"""One connection: what it reads, and when it closes."""

from typing import Any

import pytest
from tests.http.stage import GET, POST, Gate, Stage, play, read_all, turns
from tests.waiting import soon

from channelstream.http.request import Request
from channelstream.http.shared import HttpSettings

# -- the client's end of the line


def test_a_client_that_ends_its_side_is_answered() -> None:
    """All requests that came before the end are answered, then the connection closes."""

    async def scene(stage: Stage) -> None:
        gate = stage.answer = Gate()
        client = await stage.dial()
        await client.send(GET * 3)
        client.end()
        await soon(lambda: len(stage.asked) == 1)
        await turns()
        gate.opens.set()
        assert (await client.rest()).count(b"HTTP/1.1 200 OK") == 3

    play(scene)


def test_a_handler_without_an_answer_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """While its client waits for one."""

    async def forget(_: Request) -> None:
        pass

    async def scene(stage: Stage) -> None:
        stage.handler = forget
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"HTTP/1.1 500 ")

    play(scene)
    assert [record.message for record in caplog.records] == [
        "an HTTP request handler returned without an answer"
    ]


def test_a_waiting_application_is_informed_of_the_end_of_its_client(caplog: pytest.LogCaptureFixture) -> None:
    """An application that waits for the client's end, as a long poll does, is informed of it, and need not answer."""

    async def scene(stage: Stage) -> None:
        seen: list[str] = []

        async def poll(_scope: Any, receive: Any, _send: Any) -> None:
            while (message := await receive())["type"] != "http.disconnect":
                pass
            seen.append(message["type"])

        stage.answer = poll
        client = await stage.dial()
        await client.send(GET)
        client.end()
        assert await client.rest() == b""
        assert seen == ["http.disconnect"]

    play(scene)
    assert not caplog.records


@pytest.mark.parametrize("data", [b"", GET[:-3], POST % 3 + b"ab"])
def test_a_partial_request_at_the_end_is_not_answered(data: bytes) -> None:
    """Nothing is answered to the beginning of a request."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(data)
        client.end()
        assert await client.rest() == b""

    play(scene)


# -- idle connections


def test_a_request_received_as_the_idle_time_ends_is_answered() -> None:
    """The client's request is answered, although the loop has not read it when the time is over."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        client.socket.send(GET)  # The loop has no turn between this and the end of the time.
        client.connection._waiting.close_if_idle(client.connection)
        await client.until(b"ok")
        assert stage.asked == ["/a", "/a"]

    play(scene)


def test_a_client_that_sends_its_next_request_is_not_idle() -> None:
    """The head may take as long as that of the first request."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        await client.send(GET[:9])
        await turns()
        client.connection._waiting.close_if_idle(client.connection)
        await client.send(GET[9:])
        await client.until(b"ok")

    play(scene)


def test_an_idle_connection_closes() -> None:
    """After `keep_alive_s` without a byte."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        assert (await client.rest()).endswith(b"ok")

    play(scene, HttpSettings(keep_alive_s=0.01))


def test_a_client_that_still_reads_is_not_idle() -> None:
    """The time of an idle connection does not end the answer a client reads slowly."""

    async def scene(stage: Stage) -> None:
        size = 8_000_000

        async def large(_scope: Any, _receive: Any, send: Any) -> None:
            head = [(b"content-length", b"%d" % size)]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"x" * size})

        stage.answer = large
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"\r\n\r\n")
        client.connection._waiting.close_if_idle(client.connection)
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await client.rest()).count(b"x") == 2 * size

    play(scene)


# -- bounds


def test_one_request_at_a_time() -> None:
    """While an answer is pending the next request waits, and the socket is not read."""

    async def scene(stage: Stage) -> None:
        gate = stage.answer = Gate()
        client = await stage.dial()
        await client.send(GET)
        await soon(lambda: bool(stage.asked))
        assert client.transport.is_reading()
        await client.send(GET * 100)
        await soon(lambda: not client.transport.is_reading())
        assert len(stage.asked) == 1
        gate.opens.set()
        for _ in range(101):
            await client.until(b"ok")
        assert client.transport.is_reading()

    play(scene)


@pytest.mark.parametrize("parts", [(b"", GET), (GET[:9], GET[9:]), (POST % 3 + b"a", b"bc")])
def test_a_request_that_the_loop_has_not_read_in_time_is_answered(parts: tuple[bytes, bytes]) -> None:
    """A loop that is behind refuses no client that has sent everything."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(parts[0])
        await turns()
        client.socket.send(parts[1])  # The loop has no turn between this and the end of the time.
        client.connection._waiting.time_is_up(client.connection, "Too late.")
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200 ")

    play(scene)


@pytest.mark.parametrize("more", [b"", GET[:-2]])
def test_a_client_that_has_not_sent_everything_is_refused(more: bytes) -> None:
    """Bytes that are not yet read delay the refusal until they are read, and no longer."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        if more:
            client.socket.send(more)
        client.connection._waiting.time_is_up(client.connection, "Too late.")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")

    play(scene)


def test_a_connection_waits_for_one_thing_at_a_time() -> None:
    """The wait for a body takes the place of that for its head, and a whole request ends it."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        rows = stage.http_server.waits._rows
        client = await stage.dial()
        await client.send((POST % 3)[:-5])
        await turns()
        assert [(length_s, len(row.waiting)) for length_s, row in rows.items()] == [(10.0, 1)]
        await client.send((POST % 3)[-5:])
        await turns()
        assert [(length_s, len(row.waiting)) for length_s, row in rows.items()] == [(10.0, 0), (30.0, 1)]
        await client.send(b"abc")
        await client.until(b"ok")
        assert [len(row.waiting) for row in rows.values()] == [0, 0]

    play(scene, HttpSettings(head_timeout_s=10.0, body_timeout_s=30.0))


def test_a_head_that_comes_in_pieces_has_no_more_time() -> None:
    """Neither the first nor the next one: a client that sends a byte now and then would keep its socket."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        for _ in range(2):
            waits: set[Any] = set()
            for byte in GET[:-1]:
                await client.send(bytes((byte,)))
                await turns()
                waits |= {wait for row in stage.http_server.waits._rows.values() for wait in row.waiting}
            assert len(waits) == 1
            await client.send(GET[-1:])
            await client.until(b"ok")

    play(scene, HttpSettings(head_timeout_s=10.0))
