"""What strangers hold of the memory of a server, by what they send: `python -m channelstream.bench.strangers`.

Each state has a server of its own, and is measured by further connections after some that warm it up. Memory of the kernel,
such as that of what the server does not read, is not in the figures.
"""

import argparse
import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import NamedTuple

from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.processes import resident_kb
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.servers import product
from channelstream.bench.wire import TEXT_FRAME, masked

KEY = "key-of-strangers"
LONG_S = "3600"
"""No time of the server ends during a run."""
FLAGS = (
    *("--token-max-age-s", LONG_S, "--pusher-app-id", "1", "--pusher-key", KEY, "--pusher-secret", "s" * 32),
    *("--head-timeout-s", LONG_S, "--body-timeout-s", LONG_S, "--keep-alive-s", LONG_S),
    *("--unattached-timeout-s", LONG_S, "--ping-interval-s", LONG_S, "--pusher-activity-timeout-s", LONG_S),
)
WARM = 40
"""Connections before those that are measured."""
QUIET_S = 0.3
QUIET_SHARE = 0.03
"""The server has read all when it has used no more of a core than that for so many seconds: its timers do, whose turns take
longer beside much other work."""
ANSWER_S = 60.0
CHANNELS = 100
ALIKE = 3
RECEIVED_BYTES = 8192
"""What the kernel takes of answers that a client does not read."""

PADDING = b"X-Padding: %b\r\n" % (b"x" * 31_500)
"""Of a long head: a little less than `max_head_bytes`."""
CHANGING = (
    *(b"baggage", b"date", b"idempotency-key", b"traceparent"),
    *(b"tracestate", b"x-amzn-trace-id", b"x-correlation-id", b"x-request-id"),
)
"""Headers whose values are read alone where the rest of a head is that of the one before."""
SHORT = b"".join(b"%02d:x\r\n" % number for number in range(23))
"""With these, and the Host, a head has as many headers as one that is kept for the next request may have."""
PROOF = b"authorization: CS-HMAC-SHA256 key=, ts=%d, nonce=%032d, sig=%b\r\n"
MESSAGE = masked(0x01, bytes(60_000)) + masked(0x80, bytes(65_000))[:60_000]
"""Most of a message, in two frames."""


def _get(path: bytes, fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, fields)


def _post(path: bytes, fields: bytes, size: int, part: int) -> bytes:
    """Return a request with the first bytes of its body."""
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (path, fields, size) + bytes(part)


def _upgrade(path: bytes, fields: bytes = b"") -> bytes:
    handshake = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    return _get(path, handshake + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + fields)


def _unproven(number: int) -> bytes:
    return _post(b"/message", PROOF % (time.time(), number, b"a" * 64), 300_000, 200_000)


def _alike() -> bytes:
    """Return requests whose heads have one form, which is kept besides the last of them."""
    values = [b"".join(b"%b:%d\r\n" % (name, each) for name in CHANGING) for each in range(ALIKE)]
    return b"".join(_get(b"/nowhere", fields + SHORT) for fields in values)


def _subscriptions(number: int) -> bytes:
    name = b"c-%06d-%03d-" + b"n" * 150
    text = b'{"event":"pusher:subscribe","data":{"channel":"%b"}}' % name
    return _upgrade(PUSHER) + b"".join(masked(TEXT_FRAME, text % (number, each)) for each in range(CHANNELS))


class State(NamedTuple):
    """What a client sends before it waits.

    Attributes:
        sent: returns it for the client with this number.
        answer: what the server says then; empty for nothing, None for answers that the client does not read.
        times: how often it says so.
    """

    sent: Callable[[int], bytes]
    answer: bytes | None = b""
    times: int = 1


def _same(sent: bytes, answer: bytes | None = b"", times: int = 1) -> State:
    return State(lambda _: sent, answer, times)


PUSHER = b"/app/%b?protocol=7" % KEY.encode()
SCRIPT = f"/static/client/{version('channelstream')}/channelstream.js".encode()
UNKNOWN = b"HTTP/1.1 404 "
SWITCHED = b"HTTP/1.1 101 "
ESTABLISHED = b"pusher:connection_established"
STATES: Mapping[str, State] = {
    "nothing sent": _same(b""),
    "most of a head": _same(_get(b"/", PADDING)[:-2]),
    "a head, and most of a body without credentials": _same(_post(b"/disconnect", PADDING, 4096, 4000)),
    "200 KB of a body that has to prove a call": State(_unproven),
    "1 MB of a body after the refusal": _same(_post(b"/nowhere", b"", 4 << 20, 1 << 20), UNKNOWN),
    "many requests ahead, no answer read": _same(_get(SCRIPT) * 10_000, None),
    "idle after an answer": _same(_get(b"/nowhere"), UNKNOWN),
    "idle after a long head": _same(_get(b"/nowhere", PADDING), UNKNOWN),
    "idle after heads of 32 short headers": _same(_alike(), UNKNOWN, ALIKE),
    "a WebSocket without its token": _same(_upgrade(b"/ws"), SWITCHED),
    "a WebSocket without its token, long head": _same(_upgrade(b"/ws", PADDING), SWITCHED),
    "a WebSocket without its token, most of a message": _same(_upgrade(b"/ws") + MESSAGE, SWITCHED),
    "a client of Pusher": _same(_upgrade(PUSHER), ESTABLISHED),
    "a client of Pusher, most of a message": _same(_upgrade(PUSHER) + MESSAGE, ESTABLISHED),
    f"a client of Pusher, {CHANNELS} new channels": State(
        _subscriptions, b"subscription_succeeded", CHANNELS
    ),
}


class Strangers:
    """The clients of one server."""

    def __init__(self, target: Target, tls: bool) -> None:
        self._wire = target.wire
        self._tls = _without_checks() if tls else None
        self._writers: list[asyncio.StreamWriter] = []
        self._lines: list[socket.socket] = []

    async def come(self, state: State, count: int) -> None:
        """Open further connections, each in this state.

        Raises:
            BenchFailed: the server does not say what it should.
        """
        for _ in range(count):
            reader, writer = await self._connect()
            self._writers.append(writer)
            sent = state.sent(len(self._writers))
            if state.answer:
                writer.write(sent)
                await _read(reader, state.answer, state.times)
            # From here on it reads no more than a buffer.
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            if not state.answer:
                writer.write(sent)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
        line.setblocking(False)
        self._lines.append(line)
        await asyncio.get_running_loop().sock_connect(line, (self._wire.host, self._wire.port))
        name = self._wire.host if self._tls else None
        return await asyncio.open_connection(sock=line, ssl=self._tls, server_hostname=name)

    def check(self, state: State) -> None:
        """Check those that read nothing; with TLS the server may say something by itself.

        Raises:
            BenchFailed: the server has said something to one that it should wait for, or nothing to another one.
        """
        for line in self._lines if not state.answer and self._tls is None else ():
            said = _unread(line)
            if bool(said) != (state.answer is None):
                raise BenchFailed(f"a connection is in another state: the server has said {said!r}")

    def leave(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader, answer: bytes, times: int) -> None:
    received = b""
    async with asyncio.timeout(ANSWER_S):
        while received.count(answer) < times:
            part = await reader.read(65_536)
            if not part:
                raise BenchFailed(f"a connection has ended: {received[:200]!r}")
            received += part


def _unread(line: socket.socket) -> bytes | None:
    """Return the beginning of what has arrived and was not read; None if nothing has.

    Raises:
        BenchFailed: the connection has ended.
    """
    try:
        found = line.recv(200, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError as error:
        raise BenchFailed(f"a connection has ended: {error}") from error
    if not found:
        raise BenchFailed("a connection has ended without an answer")
    return found


def _without_checks() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _memory_kb(target: Target) -> int:
    """Return the resident memory: a share of what processes have in common changes with other processes."""
    return 0 if target.pid is None else resident_kb(target.pid)


async def _quiet(target: Target) -> None:
    """Wait until the server has done what is to do.

    Raises:
        BenchFailed: it is busy all the time.
    """
    end_s = time.monotonic() + ANSWER_S
    while time.monotonic() < end_s:
        watch = Stopwatch(target)
        with watch:
            await asyncio.sleep(QUIET_S)
        if (watch.cpu_s or 0.0) <= QUIET_SHARE * watch.seconds:
            return
    raise BenchFailed(f"the server is still busy after {ANSWER_S:g} s")


async def held_kb(state: State, count: int, flags: Iterable[str] = (), tls: bool = False) -> float:
    """Return the memory that a connection in this state takes, in KB.

    Raises:
        BenchFailed: a connection does not reach the state.
    """
    async with product(*FLAGS, *flags) as target:
        strangers = Strangers(target, tls)
        try:
            await strangers.come(state, WARM)
            await _quiet(target)
            before_kb = _memory_kb(target)
            await strangers.come(state, count)
            await _quiet(target)
            strangers.check(state)
            return (_memory_kb(target) - before_kb) / count
        finally:
            strangers.leave()


async def _run(options: argparse.Namespace) -> None:
    print("| state of a connection | KB |\n| --- | --: |")
    for name, state in STATES.items():
        kb = await held_kb(state, options.connections, options.flag, options.tls)
        print(f"| {name} | {kb:,.1f} |", flush=True)


def main() -> None:
    options = options_of("strangers", __doc__)
    options.add_argument(
        "--connections", type=positive, default=100, help="those that are measured of each state"
    )
    options.add_argument(
        "--tls", action="store_true", help="with --flag=--ssl-certfile=... and --ssl-keyfile"
    )
    answer(options, _run)


if __name__ == "__main__":
    main()
