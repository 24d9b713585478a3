"""Messages with descriptors between two processes, over a pair of unix sockets.

A message is a head (a length of its kind, of its body, a number of descriptors), the kind and the body. Its descriptors come
with the first bytes of the head (SCM_RIGHTS of unix(7)), so that the receiver knows where to ask for them.
"""

import array
import asyncio
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from functools import partial
from struct import Struct
from typing import Any, NamedTuple, Self, TypeVar

from channelstream.errors import CannotHandOver, PeerEnded

MAX_KIND_BYTES = 32
MAX_BODY_BYTES = 4 << 20
MAX_DESCRIPTORS = 250
"""In one message; Linux takes 253 (SCM_MAX_FD)."""
VARIABLE = "_CHANNELSTREAM_LINE"
"""Names the inherited descriptor in the environment of a new process."""

_HEAD = Struct("!BIB")
_CHUNK_BYTES = 1 << 18
_INT_BYTES = array.array("i").itemsize

T = TypeVar("T")


class Part(NamedTuple):
    """A message on a line.

    Attributes:
        kind: what it is, in ASCII.
        descriptors: who receives them has to close them.
    """

    kind: str
    body: bytes = b""
    descriptors: tuple[int, ...] = ()


class Line:
    """One end of the pair; both ends send and receive, one message after the other.

    Attributes:
        socket: the end, which does not block.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return the two ends of a new line."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), cls(theirs)

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Return the line to the process that started this one to take over; None if it was started otherwise.

        No child of this process inherits it.
        """
        number = environ.pop(VARIABLE, None)
        if number is None:
            return None
        os.set_inheritable(int(number), False)
        return cls(socket.socket(fileno=int(number)))

    def bequeathed(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a new process that inherits this end."""
        return {**environ, VARIABLE: str(self.socket.fileno())}

    def close(self) -> None:
        self.socket.close()

    async def send(self, part: Part) -> None:
        """Send a message; a short one is sent before the first turn of the loop.

        Raises:
            CannotHandOver: the other process has ended, or the message is too large.
        """
        kind = part.kind.encode("ascii")
        count = len(part.descriptors)
        if len(kind) > MAX_KIND_BYTES or len(part.body) > MAX_BODY_BYTES or count > MAX_DESCRIPTORS:
            raise CannotHandOver(f"a message of kind {part.kind} is too large")
        head = _HEAD.pack(len(kind), len(part.body), count) + kind
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", part.descriptors))]
        sent = await self._write(lambda: self.socket.sendmsg([head], rights if count else ()))
        rest = memoryview(head[sent:] + part.body)
        while rest:
            rest = rest[await self._write(partial(self.socket.send, rest[:_CHUNK_BYTES])) :]

    async def receive(self) -> Part:
        """Return the next message.

        Raises:
            CannotHandOver: the other process has ended, this one may not open so many descriptors, or the other one sends
                what none sends.
        """
        descriptors: list[int] = []
        try:
            kind_bytes, body_bytes, count = _HEAD.unpack(await self._read(_HEAD.size, descriptors))
            _check(kind_bytes, body_bytes, count - len(descriptors))
            kind = (await self._read(kind_bytes)).decode("ascii", "replace")
            return Part(kind, await self._read(body_bytes), tuple(descriptors))
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    async def _read(self, size: int, descriptors: list[int] | None = None) -> bytes:
        """Return so many bytes; descriptors that come with them are added to the list."""
        data = bytearray()
        while len(data) < size:
            receive = partial(self._receive, min(size - len(data), _CHUNK_BYTES), descriptors)
            data += await self._when(select.POLLIN, receive)
        return bytes(data)

    def _receive(self, size: int, descriptors: list[int] | None) -> bytes:
        room = 0 if descriptors is None else socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT_BYTES)
        data, ancillary, _, _ = self.socket.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, rights in ancillary:
            if descriptors is not None and (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors += array.array("i", rights[: len(rights) - len(rights) % _INT_BYTES])
        if not data:
            raise PeerEnded("the other process has ended")
        return data

    async def _write(self, send: Callable[[], int]) -> int:
        return await self._when(select.POLLOUT, send)

    async def _when(self, event: int, act: Callable[[], T]) -> T:
        """Use the socket as soon as it is ready; at once if it is.

        Args:
            event: POLLIN or POLLOUT.
        """
        while True:
            try:
                return act()
            except BlockingIOError:
                await self._ready(event)
            except OSError as error:
                raise _failure(error) from error

    async def _ready(self, event: int) -> None:
        """Wait until the socket is ready, in an event loop."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        add, remove = (
            (loop.add_reader, loop.remove_reader)
            if event == select.POLLIN
            else (loop.add_writer, loop.remove_writer)
        )
        add(self.socket, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self.socket)


class BlockingLine(Line):
    """An end for a process without an event loop, which takes descriptors of its own: it waits in `poll`."""

    def __init__(self, end: socket.socket, patience_s: float) -> None:
        """Take an end.

        Args:
            patience_s: how long this object may be used, in seconds.
        """
        super().__init__(end)
        self._due_s = time.monotonic() + patience_s

    async def _ready(self, event: int) -> None:
        waiting = select.poll()
        waiting.register(self.socket, event)
        if not waiting.poll(max(0.0, 1000 * (self._due_s - time.monotonic()))):
            raise PeerEnded("the other process does not answer in time")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what sending or receiving on this line returns."""
        try:
            work.send(None)
        except StopIteration as ended:
            value: T = ended.value
            return value
        raise AssertionError("it has waited for something else")


def _failure(error: OSError) -> CannotHandOver:
    if error.errno == errno.ETOOMANYREFS:
        return CannotHandOver(
            "too many descriptors are on their way: this process may open too few (LimitNOFILE)"
        )
    return PeerEnded(f"the other process is out of reach: {error.strerror}")


def _check(kind_bytes: int, body_bytes: int, missing: int) -> None:
    """Refuse a message by its head.

    Args:
        missing: the descriptors that have not come with it.
    """
    if kind_bytes > MAX_KIND_BYTES or body_bytes > MAX_BODY_BYTES:
        raise CannotHandOver("the other process sends no messages")
    if missing:
        raise CannotHandOver("this process may not open so many descriptors")
