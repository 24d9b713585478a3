"""A process of clients: `python -m channelstream.bench.worker` reads orders from stdin and answers on stdout."""

import asyncio
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import msgspec
import uvloop

from channelstream.bench.clients import Audience, Client
from channelstream.bench.http import ConnectionClosed, HttpConnection, open_http
from channelstream.bench.load import BenchFailed, failing_as_one
from channelstream.bench.orders import (
    Answer,
    Attach,
    Done,
    Failed,
    Finish,
    Register,
    Result,
    Start,
    Tick,
    order_from,
    to_line,
)
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.pusher import wire_of

CONCURRENCY = 64
"""Concurrent registrations or handshakes."""
TICK_S = 0.02
ATTACH_TIMEOUT_S = 60.0


class _Registered(msgspec.Struct):
    """What is read of the answer of /connect."""

    conn_id: str


_registered = msgspec.json.Decoder(_Registered).decode


def channel_name(run: str, number: int) -> str:
    """Return the name of a channel of a run."""
    return f"{run}-{number}"


class Worker:
    """The clients of one process, from registration to result."""

    def __init__(self, order: Start) -> None:
        self._wire = order.wire
        self._load = order.load
        self._registers = bool(order.wire.secret) and not order.load.pusher
        self._run = order.run
        names = [channel_name(order.run, each) for each in range(order.load.channels)]
        wire = wire_of(order.wire, names) if order.load.pusher else order.wire
        self._audience = Audience(wire, order.load.transport, order.load.deflate)
        self._context = order.wire.tls_context()
        self._registered: list[str] = []
        self._clients: list[Client] = []
        self._calls: list[HttpConnection] = []
        self._cpu_s = _cpu_s()

    @property
    def received(self) -> int:
        return self._audience.checker.received

    # -- connecting

    async def prepare(self) -> Answer:
        """Open the connections for the calls, so that registering can be timed alone."""
        if self._registers:
            self._calls = [
                await open_http(self._wire, self._context)
                for _ in range(min(CONCURRENCY, self._load.clients))
            ]
        return Done()

    async def register(self, order: Register) -> Answer:
        """Call /connect for each client, as an application does for its browsers."""
        numbers = iter(range(order.first, order.first + order.count))
        if self._registers:
            headers = b"" if self._wire.signs_whole else self._wire.signature("/connect")
            async with asyncio.TaskGroup() as tasks:
                made = [
                    tasks.create_task(self._register_some(each, headers, numbers)) for each in self._calls
                ]
            self._calls = [each.result() for each in made]
        else:
            self._registered += ["" for _ in numbers]
        return Done()

    async def _register_some(
        self, connection: HttpConnection, headers: bytes, numbers: Iterator[int]
    ) -> HttpConnection:
        """Register clients one after the other, and return the connection, which may be another one.

        A server closes a connection on which it waits for too long, at any moment (RFC 9112 section 9.5), and other clients
        may be connected first. So the first call is made again on a new one. If it was carried out nevertheless, the server
        forgets that client, which opens no stream.
        """
        has_called = False
        for number in numbers:
            try:
                answer = await connection.call(self._registration(number, headers))
            except ConnectionClosed:
                if has_called:
                    raise
                connection = await open_http(self._wire, self._context)
                answer = await connection.call(self._registration(number, headers))
            has_called = True
            self._registered.append(self._conn_id_of(answer))
        return connection

    def _conn_id_of(self, answer: bytes) -> str:
        try:
            return _registered(answer).conn_id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BenchFailed(
                f"{self._wire.url} is not a channelstream server: its answer to /connect has another form"
            ) from error

    def _registration(self, number: int, headers: bytes) -> bytes:
        """Return the call that registers a client.

        Args:
            headers: those that sign the path; empty if each call is signed as a whole.
        """
        body = self._description(number)
        return self._wire.post("/connect", body, headers or self._wire.signed("POST", "/connect", body))

    def _description(self, number: int) -> bytes:
        return msgspec.json.encode(
            {
                "username": f"{self._run}-user-{number}",
                "channels": [channel_name(self._run, each) for each in range(self._load.channels)],
                "info": {"include_history": False, "include_users": False},
            }
        )

    async def attach(self, _order: Attach) -> Answer:
        """Open a stream for each client that was registered since the last call."""
        names = iter(self._registered)
        self._registered = []
        try:
            async with asyncio.timeout(ATTACH_TIMEOUT_S), asyncio.TaskGroup() as tasks:
                for _ in range(CONCURRENCY):
                    tasks.create_task(self._attach_some(names))
        except TimeoutError:
            raise BenchFailed(f"streams were not open after {ATTACH_TIMEOUT_S:g} s") from None
        self._cpu_s = _cpu_s()
        return Done()

    async def _attach_some(self, names: Iterator[str]) -> None:
        loop = asyncio.get_running_loop()
        for conn_id in names:
            client = Client(self._audience, conn_id)
            attached = cast("asyncio.Future[None]", client.attached)
            try:
                await loop.create_connection(
                    lambda client=client: client,
                    self._wire.host,
                    self._wire.port,
                    ssl=self._context,
                )
            except OSError as error:
                raise BenchFailed(f"{self._wire.url} does not accept a stream: {error}") from error
            await attached
            self._clients.append(client)

    # -- receiving

    async def finish(self, order: Finish) -> Answer:
        """Wait for the missing messages, and return the result."""
        sent = {(publisher, channel): count for publisher, channel, count in order.sent}
        wanted = sum(sent.values()) * len(self._clients)
        received_before, since = self.received, time.monotonic()
        while self.received < wanted and time.monotonic() - since < order.quiet_s:
            await asyncio.sleep(TICK_S)
            if self.received != received_before:
                received_before, since = self.received, time.monotonic()
        return self._result(sent)

    def _result(self, sent: dict[tuple[int, int], int]) -> Result:
        audience = self._audience
        audience.checker.fold()
        return Result(
            received=self.received,
            lost=sum(client.state.lost(sent) for client in self._clients),
            bytes=audience.bytes,
            faults=audience.checker.faults,
            closed=audience.closed,
            counts=audience.checker.latency.counts,
            max_ns=audience.checker.latency.max_ns,
            last_ns=audience.checker.last_ns,
            cpu_s=_cpu_s() - self._cpu_s,
        )

    async def tick(self, send_answer: Callable[[Answer], None]) -> None:
        """Report the number of received messages periodically, and update the histogram."""
        reported = 0
        while True:
            await asyncio.sleep(TICK_S)
            if self.received != reported:
                reported = self.received
                self._audience.checker.fold()
                send_answer(Tick(reported))

    async def leave(self) -> None:
        """End all streams, and let the event loop send the closes."""
        for client in self._clients:
            client.leave()
        for connection in self._calls:
            connection.close()
        await asyncio.sleep(0)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def work() -> None:
    """Do orders until stdin ends."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    first = order_from(await orders.readline())
    assert isinstance(first, Start)  # noqa: S101 - the conductor's first line
    worker = Worker(first)
    send_answer(await _answer(worker.prepare()))
    actions: dict[type, Callable[[Any], Awaitable[Answer]]] = {
        Register: worker.register,
        Attach: worker.attach,
        Finish: worker.finish,
    }
    ticking = asyncio.ensure_future(worker.tick(send_answer))
    while line := await orders.readline():
        order = order_from(line)
        send_answer(await _answer(actions[type(order)](order)))
    ticking.cancel()
    await worker.leave()


async def _answer(action: Awaitable[Answer]) -> Answer:
    try:
        with failing_as_one():
            return await action
    except BenchFailed as error:
        return Failed(str(error))


def send_answer(answer: Answer) -> None:
    """Write one answer. It does not block long: the main process always reads."""
    sys.stdout.buffer.write(to_line(answer))
    sys.stdout.buffer.flush()


def main() -> None:
    use_all_descriptors()
    uvloop.run(work())


if __name__ == "__main__":
    main()
