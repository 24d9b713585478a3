"""Accepts the connections that wait behind one that the loop has accepted.

uvloop accepts one connection in each turn of the loop. When very many clients come back at once, turns are long, the queue
of the kernel fills up, and further connections are dropped there: their clients try again after seconds. So whenever the
loop accepts one, others that wait are accepted in the same turn.
"""

import asyncio
import os
import socket
from collections.abc import Callable

from channelstream.http.connection import HttpConnection
from channelstream.http.shared import HttpServer

AT_ONCE = 16
"""Most further connections of a listening socket in one turn: few, so that workers that share a port get equal parts."""


class Backlog:
    """The listening sockets of a server, apart from the loop's own use of them."""

    def __init__(self, http_server: HttpServer, make: Callable[[], HttpConnection]) -> None:
        self._http_server = http_server
        self._make = make
        self._sockets: list[socket.socket] = []
        self._is_due = False

    def add(self, descriptor: int) -> None:
        """Accept from a listening socket, which is duplicated: the loop keeps its own."""
        listening = socket.socket(fileno=os.dup(descriptor))
        listening.setblocking(False)
        self._sockets.append(listening)

    def accept_soon(self) -> None:
        """Accept in this turn of the loop; called for each connection that the loop has accepted."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._accept)

    def _accept(self) -> None:
        self._is_due = False
        for listening in self._sockets:
            for _ in range(AT_ONCE):
                try:
                    accepted, _address = listening.accept()
                except OSError:
                    break  # None waits, or the process can open no more sockets: the loop accepts the next one.
                accepted.setblocking(False)
                self._http_server.run(asyncio.get_running_loop().create_task(self._serve(accepted)))

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._make, accepted)
        except (OSError, asyncio.CancelledError):
            accepted.close()

    def close(self) -> None:
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()
