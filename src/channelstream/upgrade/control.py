"""Where a running server is asked to upgrade: a socket of this machine, named by the address at which the server listens.

A process is found by what it serves, so there is no file that could be stale and no process id that another process may have
got meanwhile. The name is in the abstract namespace of unix(7): it needs no folder, and ends with its process. Anyone may
connect to such a name, so both sides ask the kernel who the other one is.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256

from channelstream.config import Settings
from channelstream.errors import CannotHandOver, PeerEnded
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import FAILED, REPORT, Failure, Report

UPGRADE = "upgrade"
MAX_REQUESTS = 4
"""Requests at the same time; further ones are closed."""
REQUEST_S = 5.0
"""How long a request may take to arrive, or its answer to leave, in seconds."""
PROCESS_S = 180.0
"""How long a process may take to hand over, besides twice `upgrade_pause_s`, in seconds: more than the sum of its limits."""
PAUSE_S = 0.5
"""Pause in accepting after the process could open no more descriptors, in seconds."""
ROOT = 0

_CREDENTIALS = struct.Struct("3i")

logger = logging.getLogger(__name__)


def name_of(settings: Settings) -> str:
    """Return the name of the socket of a server at this address."""
    path = settings.unix_socket and os.path.realpath(settings.unix_socket)
    address = path or f"{settings.host}:{settings.port}"
    return f"\0channelstream-{sha256(address.encode()).hexdigest()[:32]}"


def user_of(connected: socket.socket) -> int:
    """Return the user of the process at the other end."""
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(packed)
    return int(user)


def may_ask(connected: socket.socket) -> bool:
    """Whether the other end is of this user, or of root."""
    return user_of(connected) in {os.geteuid(), ROOT}


def listening_at(settings: Settings) -> socket.socket | None:
    """Return the socket for requests. Where its name is taken only SIGUSR2 remains, and a warning says so."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.setblocking(False)
    try:
        listening.bind(name_of(settings))
        listening.listen(MAX_REQUESTS)
    except OSError as error:
        listening.close()
        logger.warning("`channelstream upgrade` will not find this process: %s", error)
        return None
    return listening


class Control:
    """Answers requests of the user of this process, and of root."""

    def __init__(self, upgrade: Callable[[], Awaitable[Report]]) -> None:
        """Create it; nothing listens yet.

        Args:
            upgrade: raises CannotHandOver if the process goes on as before.
        """
        self._upgrade = upgrade
        self._settings: Settings | None = None
        self._listening: socket.socket | None = None
        self._answering: set[asyncio.Task[None]] = set()

    def listen(self, settings: Settings) -> None:
        """Answer from now on."""
        self._settings = settings
        self._listening = listening_at(settings)
        if self._listening is not None:
            self._watch(self._listening)

    def _watch(self, listening: socket.socket) -> None:
        """Accept the commands that connect. A task would drop one that it accepts in the turn in which it is cancelled."""
        if listening is self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def stop_listening(self) -> None:
        """Leave the name to the next process; requests in progress are still answered."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def listen_again(self) -> None:
        """Answer again after `stop_listening`, if this process had the name: no other one needs it."""
        if self._settings is not None and self._listening is None:
            self.listen(self._settings)

    async def close(self) -> None:
        """Stop listening, and wait until all requests are answered."""
        self.stop_listening()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        """Begin to answer one request."""
        loop = asyncio.get_running_loop()
        try:
            accepted, _ = listening.accept()
        except OSError:  # This process may open no more descriptors.
            loop.remove_reader(listening)
            loop.call_later(PAUSE_S, self._watch, listening)
            return
        if len(self._answering) == MAX_REQUESTS or not may_ask(accepted):
            accepted.close()
            return
        task = loop.create_task(self._answer(Line(accepted)))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, line: Line) -> None:
        try:
            with suppress(CannotHandOver, TimeoutError):
                async with asyncio.timeout(REQUEST_S):
                    asked = await line.receive()
                answer = await self._answer_to(asked)
                async with asyncio.timeout(REQUEST_S):
                    await line.send(answer)
        finally:
            line.close()

    async def _answer_to(self, asked: Part) -> Part:
        if asked.kind != UPGRADE:
            return Failure("this version does not know the request").part(FAILED)
        try:
            return (await self._upgrade()).part(REPORT)
        except PeerEnded as error:
            return Failure(str(error), goes_on=False).part(FAILED)
        except CannotHandOver as error:
            return Failure(str(error)).part(FAILED)


def process_patience_s(settings: Settings) -> float:
    """Return how long one process may take to hand over, in seconds."""
    return PROCESS_S + 2 * settings.upgrade_pause_s


def patience_s(settings: Settings) -> float:
    """Return how long a server may take to answer, in seconds: its workers hand over one after the other."""
    return settings.workers * process_patience_s(settings)


async def ask_to_upgrade(settings: Settings) -> Report:
    """Ask the server at an address to upgrade, and return its report.

    Raises:
        ConnectionError: no server of this user listens there.
        TimeoutError: it has not answered in time.
        PeerEnded: the server has ended, or ends.
        CannotHandOver: it goes on as before.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
        connected.settimeout(REQUEST_S)
        connected.connect(name_of(settings))
        if os.geteuid() not in {user_of(connected), ROOT}:
            raise ConnectionRefusedError
        line = Line(connected)
        async with asyncio.timeout(patience_s(settings)):
            await line.send(Part(UPGRADE))
            answer = await line.receive()
    if answer.kind == FAILED:
        failure = Failure.of(answer)
        raise CannotHandOver(failure.reason) if failure.goes_on else PeerEnded(failure.reason)
    return Report.of(answer)
