"""A client that resumes from long logs without an entry for it."""

import asyncio

import pytest
from tests.waiting import PATIENCE_S

from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.server import build
from channelstream.transports.attachment import Attachment
from channelstream.transports.reading import CHUNK
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS


class Tape:
    """A stream that records the head of each write."""

    session = PROTOCOLS.session_of(V07, Framing.POLL)
    format = session.format

    def __init__(self) -> None:
        self.resumed = b""
        self.is_up = asyncio.Event()

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def write_first(self, data: bytes) -> None:
        self.resumed = data

    def caught_up(self) -> None:
        self.is_up.set()

    def close(self, code: CloseCode, reason: str) -> None:
        raise NotImplementedError


def test_other_tasks_run_while_undeliverable_entries_are_skipped() -> None:
    """After a loss the log is read in chunks up to the first event for the client."""

    async def test() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        channels = {"short": {"log_events": 1}, "long": {}}
        await node.connect("c", "ann", V07, channels, UserUpdate({}, {}))
        connection = node.connection("c")
        assert connection is not None
        since = str(node.position)
        for channel, count in (("short", 2), ("long", 3 * CHUNK)):
            await node.publish(
                [
                    Message(
                        uuid=f"{channel}-{number}",
                        channel=channel,
                        only=frozenset({"zoe"}),
                        user="bob",
                        payload=b"1",
                        timestamp="t",
                    )
                    for number in range(count)
                ]
            )
        turns = 0

        async def others() -> None:
            nonlocal turns
            while not tape.resumed:
                turns += 1
                await asyncio.sleep(0)

        tape = Tape()
        Attachment(node, connection, tape).start(since)
        await asyncio.gather(others(), tape.is_up.wait())
        assert b'"lost":["short"]' in tape.resumed
        assert turns >= 2

    asyncio.run(test())


def test_a_stream_that_fails_while_it_catches_up_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Its client reconnects; a stream that stays open and silent would keep it waiting for ever."""

    class Broken(Tape):
        """A stream that cannot be written to."""

        def __init__(self) -> None:
            super().__init__()
            self.closed: asyncio.Future[CloseCode] = asyncio.get_running_loop().create_future()

        def close(self, code: CloseCode, reason: str) -> None:
            self.closed.set_result(code)

    async def test() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        await node.connect("c", "ann", V07, {"a": {}}, UserUpdate({}, {}))
        await node.publish([Message(uuid="m", channel="a", user="bob", payload=b"1", timestamp="t")])
        connection = node.connection("c")
        assert connection is not None
        stream = Broken()
        Attachment(node, connection, stream).start(None)
        async with asyncio.timeout(PATIENCE_S):
            assert await stream.closed is CloseCode.OVERLOADED

    asyncio.run(test())
    assert "a stream failed" in caplog.text
