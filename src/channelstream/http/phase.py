"""The phases of a connection."""

from enum import Enum, auto


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
