"""A TCP line between a client and the server, in a test's hands."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

from channelstream_client.testing.port import HeldPort

SLICE_S = 0.05
"""How much a paced line sends at once, in seconds of its pace."""


class Line:
    """A TCP line to the server that a test can cut and mend; bytes pass as they are. It keeps its port while it is cut.

    Attributes:
        blocked: connections whose request begins like one of these are closed.
        stalled: those are accepted, and never answered.
        passes: while it is clear nothing moves towards the clients, and no end is informed.
        bytes_per_s: the pace towards the client; 0 means no limit.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._ends: list[socket.socket] = []
        self._held = HeldPort()
        self.port = self._held.number
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.blocked: tuple[bytes, ...] = ()
        self.stalled: tuple[bytes, ...] = ()
        self.passes = threading.Event()
        self.passes.set()
        self.bytes_per_s = 0
        self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close every connection, and refuse new ones."""
        self.passes.set()
        with suppress(OSError):  # It was cut before.
            # A thread that waits in accept() would keep the port open; this wakes it.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._ends:
            with suppress(OSError), closing(self._ends.pop()) as end:
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start()

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        self._held.release()

    def lead_to(self, port: int) -> None:
        """Cut it, and mend it as a line to another server."""
        self.cut()
        self._target = ("127.0.0.1", port)
        self.mend()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                self._keep(near, listener)
                threading.Thread(target=self._serve, args=(near, listener), daemon=True).start()

    def _keep(self, end: socket.socket, listener: socket.socket) -> None:
        """Remember an end to cut; one that came while the line was cut is cut at once."""
        self._ends.append(end)
        if listener.fileno() < 0:
            end.close()

    def _serve(self, near: socket.socket, listener: socket.socket) -> None:
        with suppress(OSError):
            head = near.recv(65536)
            if head.startswith(self.blocked):
                near.close()
            elif not head.startswith(self.stalled):
                far = socket.create_connection(self._target)
                self._keep(far, listener)
                far.sendall(head)
                threading.Thread(target=_pump, args=(far, near, self._send), daemon=True).start()
                _pump(near, far, socket.socket.sendall)

    def _send(self, near: socket.socket, data: bytes) -> None:
        self.passes.wait()
        while data and self.bytes_per_s:
            size = int(self.bytes_per_s * SLICE_S)
            near.sendall(data[:size])
            data = data[size:]
            time.sleep(SLICE_S)  # real time: this is what a slow line does.
        near.sendall(data)


def _pump(source: socket.socket, sink: socket.socket, send: Callable[[socket.socket, bytes], None]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            send(sink, data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
