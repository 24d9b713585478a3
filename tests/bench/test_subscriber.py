"""A subscriber of the bench that reconnects, against a server that answers each stream as a test says."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress

import pytest
from tests.waiting import PATIENCE_S, soon

from channelstream.bench import subscriber as module
from channelstream.bench.application import Application
from channelstream.bench.subscriber import Frames, Shared, Subscriber
from channelstream.bench.wire import Wire
from channelstream_client import resuming
from channelstream_client.protocol import Item
from channelstream_client.resuming import Limits

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def frame(payload: bytes, first: int = 0x81) -> bytes:
    return bytes((first, len(payload))) + payload


def items(*texts: str) -> bytes:
    return frame(
        json.dumps([{"type": "message", "message": text, "position": text} for text in texts]).encode()
    )


def answer(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


class Server:
    """Registers clients as c1, c2, ..., and gives each stream the next of its answers, the last of which stay open.

    Attributes:
        opened: the targets of the streams.
        connects: bodies of `/connect`.
        pongs: frames that clients sent.
    """

    def __init__(self, *streams: bytes, all_stay_open: bool = False) -> None:
        self.streams = list(streams)
        self.all_stay_open = all_stay_open
        self.opened: list[str] = []
        self.connects: list[Item] = []
        self.pongs = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The subscriber may close the socket, between two requests or within one.
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, target, _ = head.split(" ", 2)
                if method == "POST":
                    length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
                    self.connects.append(json.loads(await reader.readexactly(length)))
                    made = {"conn_id": f"c{len(self.connects)}", "position": "start"}
                    writer.write(answer("200 OK", json.dumps(made).encode()))
                else:
                    self.opened.append(target)
                    writer.write(self.streams.pop(0))
                    if self.all_stay_open or not self.streams:
                        self.pongs = await reader.read(100)
                    return


def play(
    server: Server,
    check: Callable[[Subscriber, Shared, list[str]], Awaitable[None]],
    limits: Limits | None = None,
) -> None:
    """Let a subscriber listen to a server, without waits, while `check` runs; it is given the received texts."""

    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        application = Application(Wire(host="127.0.0.1", port=port, secret="s"))
        shared = Shared(application, lambda: 0.0, limits=limits or Limits())
        texts: list[str] = []
        subscriber = Subscriber(
            shared, {"username": "ann"}, lambda got: texts.extend(each["message"] for each in got)
        )
        async with asyncio.timeout(PATIENCE_S), listener:
            try:
                await subscriber.begin()
                await check(subscriber, shared, texts)
            finally:
                await shared.close()
                subscriber.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "ending",
    [b"", frame((4008).to_bytes(2), 0x88), frame(b"<html>"), frame(b'[{"type": "closing", "code": 1012}]')],
    ids=["cut", "close frame", "nonsense", "closing item"],
)
def test_stream_that_ends_is_resumed(ending: bytes) -> None:
    """Whatever ends it, the next one resumes from the position of the last item."""
    server = Server(UPGRADED + items("a", "b") + ending, UPGRADED + items("c"))

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        await soon(lambda: texts == ["a", "b", "c"])
        assert server.opened == ["/ws?conn_id=c1&since=start", "/ws?conn_id=c1&since=b"]
        assert shared.ends.total() == 1

    play(server, check)


@pytest.mark.parametrize(
    "unknown",
    [
        UPGRADED + frame((4001).to_bytes(2), 0x88),
        answer("401 Unauthorized", b'{"error": "no", "close_code": 4001}'),
        answer("401 Unauthorized", b""),
    ],
    ids=["close frame", "code in the answer", "status"],
)
def test_unknown_connection_is_registered_again(unknown: bytes) -> None:
    """The application is asked with the last position, and the stream resumes from it."""
    server = Server(UPGRADED + items("a"), unknown, UPGRADED + items("b"))

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        await soon(lambda: texts == ["a", "b"])
        assert server.connects == [{"username": "ann"}, {"username": "ann", "since": "a"}]
        assert server.opened[-1] == "/ws?conn_id=c2&since=a"

    play(server, check)


def test_connection_that_the_server_closed_is_replaced() -> None:
    """A call after a restart of the server does not fail because of an older connection."""
    server = Server(UPGRADED)

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        [idle] = shared.application._idle
        idle.close()
        await soon(lambda: not idle.is_open)
        assert (await shared.application.call("/connect", {}))["conn_id"] == "c2"
        assert idle not in shared.application._idle

    play(server, check)


def test_final_code_stops_it() -> None:
    """A code after which no client reconnects is reported to the run."""
    server = Server(UPGRADED + frame((1008).to_bytes(2), 0x88), b"")

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        await soon(lambda: shared.stopped == ["closed (1008)"])
        assert len(server.opened) == 1

    play(server, check)


def test_closed_subscribers_do_not_come_back() -> None:
    """When the run is over, the end of a stream opens no other one."""
    server = Server(UPGRADED + items("a"))

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        await soon(lambda: texts == ["a"])
        await shared.close()
        assert subscriber._socket is not None
        subscriber._socket.drop()
        await soon(lambda: subscriber._socket is None)
        assert not shared.tasks
        assert len(server.opened) == 1

    play(server, check)


@pytest.mark.parametrize("silent", [b"", UPGRADED, UPGRADED + items("a")])
def test_a_silent_stream_is_replaced(silent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Python client does: whether the server does not answer, or sends nothing after that."""
    monkeypatch.setattr(resuming, "OPEN_TIMEOUT_S", 0.05)
    server = Server(silent, *[UPGRADED + items("b")] * 1_000, all_stay_open=True)

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        await soon(lambda: "b" in texts)
        assert any("silent for 0.05 s" in reason for reason in shared.ends)

    play(server, check, Limits(silence_s=0.05))


def test_ping_is_answered() -> None:
    """A server drops a client that does not answer."""
    server = Server(UPGRADED + frame(b"hi", 0x89))

    async def check(subscriber: Subscriber, shared: Shared, texts: list[str]) -> None:
        await soon(lambda: server.pongs == b"\x8a\x82\0\0\0\0hi")

    play(server, check)


def test_equal_frames_are_decoded_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that receive the same bytes share the items, within a bound."""
    monkeypatch.setattr(module, "_FRAMES_KEPT", 2)
    frames = Frames()
    first = frames.items(b'[{"n": 1}]')
    assert frames.items(b'[{"n": 1}]') is first
    frames.items(b'[{"n": 2}]')
    frames.items(b'[{"n": 3}]')
    assert len(frames._known) == 1
    assert frames.items(b'[{"n": 1}]') == first
