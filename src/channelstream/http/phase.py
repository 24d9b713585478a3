"""The phases of a connection."""

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """The phase of a connection, which decides what it waits for."""

    IDLE = auto()
    """Between two requests; closed after `keep_alive_s`."""
    HEAD = auto()
    """Before the first request, or inside a head; refused with 408 after `head_timeout_s`."""
    EXCHANGE = auto()
    """A request is in progress; its body has `body_timeout_s`."""
    LINGER = auto()
    """The last answer has been written; what the client still sends is discarded for `LINGER_S`."""
    CLOSED = auto()


IDLE: Final = Phase.IDLE
HEAD: Final = Phase.HEAD
EXCHANGE: Final = Phase.EXCHANGE
LINGER: Final = Phase.LINGER
CLOSED: Final = Phase.CLOSED
"""The phases as globals: CPython 3.11 takes 45 ns to find an attribute of an enum class, and every request asks for six."""


class Work(Enum):
    """What a connection does for its client, as far as another process must wait for it that takes the sockets over."""

    NONE = auto()
    """Nothing, or its answer is being written."""
    RECEIVING = auto()
    """A request is being received; its handler may wait for the rest."""
    HANDLER = auto()
    """The handler of a whole request runs."""
