"""Listening sockets, and the TLS handshakes of the accepted ones.

uvloop accepts one connection of a descriptor in each turn of the loop. When very many clients come back at once, turns are
long, the queue of the kernel fills up, and further connections are dropped there: their clients try again after
seconds. So the loop gets several descriptors of a listening socket, and accepts one connection of each.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from channelstream.http.connection import HttpConnection
from channelstream.http.phase import Work
from channelstream.http.shared import SPARE_SOCKETS, HttpServer
from channelstream.http.unix_socket import UnixSocket

BACKLOG = 4096
ACCEPTS_AT_ONCE = 8
"""Connections of a listening socket that the loop accepts in one turn: few, so that workers that share a port get equal
parts. A connection that comes alone is looked for at each descriptor, for 3 to 7 us each (measured)."""
TLS_ACCEPTS_AT_ONCE = 64
"""Connections that are accepted in one turn with TLS, where accepting only starts a handshake."""
PAUSE_S = 0.5
"""Pause in accepting after the process could open no more sockets, in seconds."""
TLS_RECEIVED_BYTES = 49_152
"""What the kernel receives of a TLS connection until it is read (Linux allows twice as much, with its own costs). The loop
keeps buffers as long as the most that it has read at once, up to 256 KiB each: 690 KB of a connection, and 240 KB with this
bound (measured). A client sends so much in one round trip: 4 MiB in 21 s if that takes 250 ms."""
SHUTDOWN_S = 86_400.0
"""The loop's limit for the end of a TLS connection. A shorter one would cut off a client that reads its answer
slowly; `closing.py` and its callers drop clients that read nothing."""
ListeningSocket = socket.socket
"""Class of the sockets that accept; a test replaces it by one that fails."""


class Listener:
    """Accepts connections until it is closed.

    Attributes:
        paused: the listening sockets, after `pause`.
    """

    def __init__(self, http_server: HttpServer, tls: ssl.SSLContext | None = None) -> None:
        self._http_server = http_server
        self._tls = tls
        self._bound: list[Any] = []
        """The listening sockets, one for each address: what moves to another process."""
        self._servers: list[asyncio.Server] = []
        """They accept on these, but for TLS."""
        self._sockets: list[socket.socket] = []
        """Further descriptors of these, on which `_accept` accepts for TLS."""
        self._unix: UnixSocket | None = None
        self.paused: list[socket.socket] = []
        self._make = partial(HttpConnection, http_server)

    async def listen_at(self, host: str, port: int) -> int:
        """Listen at all addresses of a host; return the port.

        Raises:
            OSError: the address cannot be used.
        """
        server = await asyncio.get_running_loop().create_server(
            self._make, host, port, backlog=BACKLOG, start_serving=self._tls is None
        )
        await self._add(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_on(self, sockets: Iterable[socket.socket]) -> None:
        """Listen on bound sockets."""
        for bound in sockets:
            await self._add(await self._serve(bound))

    async def listen_at_path(self, path: str) -> None:
        """Listen on a unix socket, and replace one on which no process listens.

        Raises:
            FileExistsError: the path exists and is not a socket.
            OSError: the path cannot be used; with EADDRINUSE a server listens there.
        """
        unix = UnixSocket(path, BACKLOG)
        self._unix = unix
        await self._add(await self._serve(unix.listening))

    def close(self) -> None:
        """Stop accepting."""
        if self._unix is not None:
            self._unix.remove()
        self._stop_accepting()
        self._drop_paused()

    def pause(self) -> None:
        """Accept nothing until `resume`; the kernel keeps the connections that come meanwhile."""
        self.paused = [_again(each) for each in self._bound]
        self._bound.clear()
        self._stop_accepting()

    async def resume(self) -> None:
        """Accept again."""
        paused, self.paused = self.paused, []
        await self.listen_on(paused)

    @property
    def owns_path(self) -> bool:
        """Whether it removes the path of a unix socket at its end."""
        return self._unix is not None

    async def take_over(self, sockets: Sequence[socket.socket], owns_path: bool) -> None:
        """Listen on the sockets of another process, which no longer does.

        Args:
            owns_path: the path of the unix socket among them is removed at the end.
        """
        for listening in sockets if owns_path else ():
            if listening.family == socket.AF_UNIX:
                with suppress(OSError):  # It was removed meanwhile: nothing is left to remove.
                    self._unix = UnixSocket.taken_over(listening)
        await self.listen_on(sockets)

    def leave(self) -> None:
        """Leave the sockets, and the path of a unix socket, to the process that listens on them from now on."""
        self._unix = None
        self._drop_paused()

    def _drop_paused(self) -> None:
        for listening in self.paused:
            listening.close()
        self.paused.clear()

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._sockets.clear()

    async def _serve(self, bound: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"sock": bound, "backlog": BACKLOG, "start_serving": self._tls is None}
        if bound.family == socket.AF_UNIX:
            # `UnixSocket` removes the path. The loop would, too, with CPython 3.13, although another process may have it.
            options["cleanup_socket"] = False
            return await loop.create_unix_server(self._make, **options)
        return await loop.create_server(self._make, **options)

    async def _add(self, server: asyncio.Server) -> None:
        """Keep a server. With TLS, accept here and not in the loop: sockets count before their handshake is done."""
        self._servers.append(server)
        self._bound += server.sockets
        for bound in server.sockets:
            if self._tls is None:
                for _ in range(ACCEPTS_AT_ONCE - 1):
                    again = _again(bound)
                    self._servers.append(await self._serve(again))
            else:
                listening = _again(bound)
                listening.setblocking(False)
                listening.listen(BACKLOG)
                self._sockets.append(listening)
                self._watch(listening, self._tls)

    def _watch(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        if listening.fileno() >= 0:
            accept = partial(self._accept, listening, tls)
            asyncio.get_running_loop().add_reader(listening, accept)

    def _accept(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        for _ in range(TLS_ACCEPTS_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(PAUSE_S, self._watch, listening, tls)
                return
            if self._http_server.excess >= SPARE_SOCKETS:
                # A handshake would cost more than the refusal is worth.
                self._http_server.report_full()
                accepted.close()
            else:
                Handshake(self._http_server, accepted, tls).begin()


def _again(bound: Any) -> socket.socket:
    """Return another descriptor of a listening socket."""
    return ListeningSocket(fileno=os.dup(bound.fileno()))


class Handshake:
    """An accepted socket during its TLS handshake, counted and bounded in time like any other."""

    def __init__(self, http_server: HttpServer, accepted: socket.socket, tls: ssl.SSLContext) -> None:
        self._http_server = http_server
        self._accepted = accepted
        self._tls = tls
        self.stop: Callable[[], object] = accepted.close

    def begin(self) -> None:
        self._accepted.setblocking(False)
        # Not of the listening socket, which a process without TLS may take over.
        self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TLS_RECEIVED_BYTES)
        self._http_server.register(self)
        task = asyncio.get_running_loop().create_task(self._shake_hands())
        self.stop = task.cancel
        self._http_server.run(task)

    def abort(self) -> None:
        self.stop()

    def hold(self) -> None:
        """Do nothing: the connection that it becomes begins no request while the server is held."""

    def let_go(self) -> None:
        """Do nothing: nothing was held."""

    @property
    def work(self) -> Work:
        return Work.NONE

    async def _shake_hands(self) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: HttpConnection(self._http_server, self),
                self._accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._http_server.settings.head_timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, asyncio.CancelledError):
            # Not TLS, too slow, disconnected, or the server stops: no answer is possible.
            self._accepted.close()
        finally:
            self._http_server.unregister(self)
