"""A free port of this machine that no other program gets by chance."""

import socket
import sys
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


class HeldPort:
    """A free port, held for a program that is going to listen there.

    A bound socket that never listens holds it: the system gives the port to no other program, and refuses connections
    until the program listens. That program binds with SO_REUSEADDR, as servers do; then Linux lets both have the port
    (socket(7)). Other systems do not, so there the port is only a proposal.

    Attributes:
        number: the port.
    """

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((HOST, 0))
        self.number: int = self._holder.getsockname()[1]
        if sys.platform != "linux":
            self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let any program have the port. Repeated calls do nothing."""
        self._holder.close()

    def is_in_use(self) -> bool:
        """Return whether a program other than this one uses the port."""
        try:
            socket.create_server((HOST, self.number)).close()
        except OSError:
            return True
        return False
