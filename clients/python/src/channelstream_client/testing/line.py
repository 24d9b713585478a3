"""A TCP line to a server that a test can cut, mend, stall and slow down; bytes pass as they are."""

import socket
import threading
import time
from contextlib import suppress

_BUFFER_BYTES = 4096
"""What the kernel may hold for a stalled client, about: the less, the sooner the server notices."""
_CHUNK_BYTES = 65536
_TURNS_PER_S = 50
"""How often in a second a slow line carries some bytes."""


class Line:
    """Listens on a port of its own and carries every connection on to the server's."""

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
        """Break every connection, and each new one, until `mend`."""
        with self._lock:
            self._is_whole = False
            ends, self._ends = self._ends, []
        for end in ends:
            _break(end)

    def mend(self) -> None:
        """Let new connections through again."""
        with self._lock:
            self._is_whole = True

    def stall(self) -> None:
        """Stop carrying what the server sends, as if the client read nothing, until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        """Carry on, with what has gathered first."""
        self._flows.set()

    def throttle(self, bytes_per_s: float | None) -> None:
        """Carry what the server sends no faster than this, on each connection; None means as fast as can be."""
        self._bytes_per_s = bytes_per_s

    def close(self) -> None:
        """Break everything for good."""
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
        with suppress(OSError):  # One of the ends has gone, or the line was cut: both are what this is for.
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
