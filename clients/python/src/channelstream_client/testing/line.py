"""A TCP proxy to a server, which a test can cut, restore, stall and slow down. It does not change the bytes."""

import socket
import threading
import time
from contextlib import suppress

_BUFFER_BYTES = 4096
"""Approximate kernel buffer of a stalled client. With a small buffer the server detects the stall sooner."""
_CHUNK_BYTES = 65536
_TURNS_PER_S = 50
"""How often per second a throttled line forwards bytes."""


class Line:
    """Listens on a free port and forwards every connection to the server."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._bytes_per_s: float | None = None
        self._is_whole = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections, and every new one until `mend`."""
        with self._lock:
            self._is_whole = False
            ends, self._ends = self._ends, []
        for end in ends:
            _break(end)

    def mend(self) -> None:
        """Accept new connections again."""
        with self._lock:
            self._is_whole = True

    def stall(self) -> None:
        """Stop forwarding data from the server until `flow`, as if the client did not read."""
        self._flows.clear()

    def flow(self) -> None:
        """Continue to forward data, buffered data first."""
        self._flows.set()

    def throttle(self, bytes_per_s: float | None) -> None:
        """Limit the rate of data from the server, for each connection; None means no limit."""
        self._bytes_per_s = bytes_per_s

    def close(self) -> None:
        """Break all connections and stop listening."""
        self.cut()
        self.flow()
        with suppress(OSError):  # Wakes the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # The line was closed.
            while True:
                near, _ = self._listener.accept()
                self._carry(near)

    def _carry(self, near: socket.socket) -> None:
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        try:
            far.connect(self._target)
        except OSError:
            _break(near)
            far.close()
            return
        with self._lock:
            is_whole = self._is_whole
            if is_whole:
                self._ends += [near, far]
        if not is_whole:
            _break(near)
            _break(far)
            return
        threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
        threading.Thread(target=self._pump, args=(far, near, self._flows), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, gate: threading.Event | None) -> None:
        with suppress(OSError):  # An end closed its socket, or the line was cut.
            while data := source.recv(_CHUNK_BYTES):
                if gate:
                    self._send_slowly(data, sink, gate)
                else:
                    sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _send_slowly(self, data: bytes, sink: socket.socket, gate: threading.Event) -> None:
        while data:
            gate.wait()
            rate = self._bytes_per_s
            part = data if rate is None else data[: max(1, int(rate / _TURNS_PER_S))]
            sink.sendall(part)
            data = data[len(part) :]
            if rate is not None:
                time.sleep(len(part) / rate)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
