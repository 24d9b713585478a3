"""A worker: a node of its own, which talks with the parent."""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from functools import partial

from channelstream import service_manager
from channelstream.config import Settings
from channelstream.errors import CannotHandOver
from channelstream.integrations.metrics.siblings import Worker
from channelstream.lifecycle import Server
from channelstream.server import serve, take_over
from channelstream.supervisor.ports import bind
from channelstream.upgrade.line import Line
from channelstream.upgrade.messages import MAX_REASON, REPORT, Failure

SERVING = b"s"
"""First byte of a message to the parent, before the process id in decimal digits: this process serves."""
ALIVE = b"a"
"""The same, every `ALIVE_S`: the event loop of this process turns."""
ALIVE_S = 5.0
UPGRADE = b"u"
"""A message to a worker: let a new process take over."""
UPGRADED, KEPT = b"n", b"k"
"""First bytes of its answers, before a `Report` of the new process, and before the `Failure`."""
MESSAGE_BYTES = 65_536
"""Longest message that is read."""

logger = logging.getLogger(__name__)


def work(
    settings: Settings,
    reserved: list[socket.socket],
    for_scrapers: list[socket.socket],
    line: socket.socket,
    worker: Worker,
) -> int:
    """Run a worker; return its exit code.

    Raises:
        ConfigError: it cannot serve.
    """
    # A Ctrl-C must reach the parent only, which signals each worker once: a second signal would end the drain.
    os.setpgid(0, 0)
    service_manager.forget()
    own, own_for_scrapers = (
        [bind(each.family, each.getsockname(), is_shared=True) for each in bound]
        for bound in (reserved, for_scrapers)
    )
    return serve(settings, own, partial(attend, line), worker, own_for_scrapers)


def attend(line: socket.socket, server: Server) -> None:
    """Report to the parent that this worker serves, and do what it asks from now on."""
    attendant = Attendant(line, server)
    attendant.serve()
    attendant.show_life()


def succeed(line: socket.socket, server: Server) -> None:
    """Show the parent that the loop turns while this process takes over, and do what `attend` does once it serves."""
    attendant = Attendant(line, server)
    attendant.show_life()
    server.on_started = attendant.serve


def take_over_worker(settings: Settings, line: Line) -> int:
    """Run a worker in place of the process at the other end of a line; return its exit code.

    Raises:
        ConfigError: it cannot serve.
    """
    return take_over(settings, line, succeed)


def received(line: socket.socket) -> bytes:
    """Return the message that has come on a line between a worker and the parent; empty once the other end is closed."""
    try:
        return line.recv(MESSAGE_BYTES)
    except ConnectionResetError:
        return b""


class Attendant:
    """Upgrades a worker when the parent asks, and stops it when the parent is dead."""

    def __init__(self, line: socket.socket, server: Server) -> None:
        line.setblocking(False)
        server.parent = line
        self._line = line
        self._server = server
        self._upgrading: asyncio.Task[None] | None = None

    def show_life(self) -> None:
        """Report from now on that the loop turns: a process whose loop hangs is killed by the parent."""
        self.send(ALIVE + str(os.getpid()).encode())
        asyncio.get_running_loop().call_later(ALIVE_S, self.show_life)

    def serve(self) -> None:
        """Report that this worker serves, and do what the parent asks from now on."""
        self.send(SERVING + str(os.getpid()).encode())
        self.begin()

    def begin(self) -> None:
        asyncio.get_running_loop().add_reader(self._line, self._receive)

    def _receive(self) -> None:
        # The new process reads from the same end, once it serves.
        asyncio.get_running_loop().remove_reader(self._line)
        if received(self._line) == UPGRADE:
            self._upgrading = asyncio.get_running_loop().create_task(self._upgrade())
        else:
            logger.error("the parent of the workers has ended, so this one stops")
            self._server.monitoring.scraper.siblings.are_orphans = True
            self._server.stop()

    async def _upgrade(self) -> None:
        try:
            report = await self._server.upgrade()
        except CannotHandOver as error:
            self.send(KEPT + Failure(str(error)[:MAX_REASON]).part("").body)
            self.begin()
            return
        self.send(UPGRADED + report.part(REPORT).body)

    def send(self, message: bytes) -> None:
        # Nothing can be sent to a dead parent: who reads from this end next notices its death.
        with suppress(OSError):
            self._line.send(message)
