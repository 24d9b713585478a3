"""What the errors mean with which Redis refuses a call, and how often the log names them."""

import logging
import re
import time

from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from channelstream.core.line_limit import LineLimit

ANOTHER_SERVER = (NoScriptError, ReadOnlyError, MasterDownError, ClusterDownError)
"""Errors after which the node reconnects, because the server has another role now, or was replaced."""
OTHER_LOG = ("EPOCH", "LATE", "READONLY")
"""Beginnings of other error texts after which the node reconnects."""
BUSY = ("BUSY", "MISCONF", "NOREPLICAS", "OOM")
"""Beginnings of error texts which mean, like OutOfMemoryError, that Redis cannot run the call now."""
WRAPPED = re.compile(r"Error running script .*: -(?=[A-Z]+ )")
"""The text that Redis 6.2 puts before the error of a command in a script; 7.0 passes the error on as it is."""
REFUSED = "The engine cannot do that now; try again later."
"""The error text for callers when Redis refuses; the reason is logged."""
REFUSALS_A_MINUTE = 5
"""Most lines in the log about refusals that have a known cause, and about others: a full Redis refuses nearly all that is
asked, and must not hide a fault of ours."""

logger = logging.getLogger(__name__)


def reason_of(error: ResponseError) -> str:
    """Return the error of the command that Redis refused."""
    return WRAPPED.sub("", str(error))


def needs_new_link(error: ResponseError) -> bool:
    """Return whether the node reconnects after an error: the server, or its log, is another one now."""
    return isinstance(error, ANOTHER_SERVER) or reason_of(error).startswith(OTHER_LOG)


def is_known(error: ResponseError) -> bool:
    """Return whether an error of a script has a cause outside of it."""
    is_busy = isinstance(error, OutOfMemoryError) or reason_of(error).startswith(BUSY)
    return is_busy or needs_new_link(error)


class RefusalLog:
    """Names the refusals of one shard in the log."""

    def __init__(self) -> None:
        self._limits = {level: LineLimit(REFUSALS_A_MINUTE) for level in (logging.WARNING, logging.ERROR)}

    def report(self, level: int, what: str, error: ResponseError) -> None:
        limit = self._limits[level]
        if limit.admits(time.monotonic()):
            logger.log(level, "Redis has refused %s: %s%s", what, error, limit.take_omitted())
