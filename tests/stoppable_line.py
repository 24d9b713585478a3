"""A line between a node and its Redis that a test can stop."""

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any


class _Pair:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self.passes = Event()
        self.passes.set()


class StoppableLine:
    """A TCP line to a unix socket, on which nothing moves while it is cut, and neither end is informed.

    A subscription's connection alone can go silent, too.
    """

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self._passes = Event()
        self._passes.set()
        self._ends: list[socket.socket] = []
        self._subscriptions: set[_Pair] = set()
        self._threads: list[Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def cut(self) -> None:
        self._passes.clear()

    def mend(self) -> None:
        self._passes.set()

    def silence_subscriptions(self) -> None:
        """Let nothing more through the connections that have subscribed to something; those made later work."""
        assert self._subscriptions
        for pair in self._subscriptions:
            pair.passes.clear()

    def close(self) -> None:
        self.mend()
        for pair in self._subscriptions:
            pair.passes.set()
        _shut(self._listener)
        self._threads[0].join()
        for end in self._ends:
            _shut(end)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._ends += [near, far]
                far.connect(self._target)
                pair = _Pair()
                self._start(self._carry, near, far, pair)
                self._start(self._carry, far, near, pair)

    def _carry(self, source: socket.socket, sink: socket.socket, pair: "_Pair") -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if b"SUBSCRIBE" in data:
                    self._subscriptions.add(pair)
                self._passes.wait()
                pair.passes.wait()
                sink.sendall(data)
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    """End a socket, also under a thread that waits for it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
