"""A process of clients: how it registers them."""

import asyncio
from contextlib import suppress

import pytest

from channelstream.bench.load import BenchFailed, Load, failing_as_one
from channelstream.bench.orders import Register, Start
from channelstream.bench.wire import Wire
from channelstream.bench.worker import Worker

CONNECTED = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"conn_id":"c"}'


class Closing:
    """A server that answers some requests of each connection, and closes it at the next one.

    Attributes:
        answers: for each connection, how many requests are answered; for all further ones as for the last.
        opened: number of connections.
    """

    def __init__(self, *answers: int) -> None:
        self.answers = answers
        self.opened = 0
        self.ended = asyncio.Semaphore(0)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        left = self.answers[min(self.opened, len(self.answers)) - 1]
        with suppress(asyncio.IncompleteReadError):  # The client has gone.
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                if not left:
                    break
                left -= 1
                writer.write(CONNECTED)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.ended.release()


def register(server: Closing, *groups: int) -> None:
    """Register groups of clients, in a process with one connection for its calls."""

    async def play() -> None:
        async with await asyncio.start_server(server.accept, "127.0.0.1", 0) as listening:
            wire = Wire(host="127.0.0.1", port=listening.sockets[0].getsockname()[1], secret="s")
            worker = Worker(Start(wire, Load(clients=1), "run"))
            await worker.prepare()
            try:
                for count in groups:
                    await worker.register(Register(0, count))
            finally:
                await worker.leave()
                for _ in range(server.opened):
                    await server.ended.acquire()

    asyncio.run(play())


@pytest.mark.parametrize("answered", [0, 2])
def test_a_connection_that_waited_for_too_long_is_replaced(answered: int) -> None:
    """The server closes it when the first request of a group is on its way; the new one serves from then on."""
    server = Closing(answered, 9)
    register(server, 2, 2, 2)
    assert server.opened == 2


@pytest.mark.parametrize(("answers", "opened"), [((1,), 1), ((0, 0), 2)])
def test_a_server_that_closes_more_fails_the_run(answers: tuple[int, ...], opened: int) -> None:
    """A connection that was just used or just opened has not waited."""
    server = Closing(*answers)
    with pytest.raises(BenchFailed, match="closed a connection during a call"), failing_as_one():
        register(server, 2)
    assert server.opened == opened
