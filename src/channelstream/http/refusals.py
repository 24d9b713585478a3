"""The calls and streams that were refused lately, by path, status, reason and caller: a bounded table and a line in the log.

A caller with a wrong secret would otherwise see its errors alone. Only refused requests cost anything.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from channelstream.core.addresses import ADDRESS_CHARACTERS
from channelstream.core.line_limit import LineLimit
from channelstream.errors import ChannelstreamError, NotFound

KEPT = 500
"""Most rows; at the bound the one that was not met for longest is dropped."""
LOG_EVERY_S = 10.0
"""Least time between two lines in the log, in seconds."""
METHOD_CHARACTERS = 16

logger = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """What was refused, to whom.

    Attributes:
        route: path of the route; empty for a page, and for an unknown path, whose status is 404.
        code: stable name of the error.
        address: of the caller, as the policy of proxies sees it.
    """

    method: str
    route: str
    status: int
    code: str
    address: str


class Tally(Struct):
    """How often something was refused, and when last, in epoch seconds."""

    count: int = 0
    last_s: float = 0.0


class RefusalTable:
    """The table of one application in one process."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        app_id: str = "",
        on_refusal: Callable[[str], None] = lambda address: None,
    ) -> None:
        """Create an empty table.

        Args:
            wall: returns seconds since 1970.
            steady: returns seconds of a clock that never jumps.
            app_id: the further application of which these are; empty for the default one.
            on_refusal: called for each with the caller's address.
        """
        self._wall = wall
        self._steady = steady
        self._suffix = f" of application {app_id}" if app_id else ""
        self._rows: OrderedDict[Refusal, Tally] = OrderedDict()
        self._on_refusal = on_refusal
        self._lines = LineLimit(1, LOG_EVERY_S)

    def add(self, method: str, route: str, error: ChannelstreamError, address: str) -> None:
        """Count a refusal, and log it unless another one was logged lately."""
        refusal = Refusal(
            method[:METHOD_CHARACTERS], route, error.http_status, error.code, address[:ADDRESS_CHARACTERS]
        )
        self._on_refusal(address)
        row = self._rows.setdefault(refusal, Tally())
        row.count += 1
        row.last_s = self._wall()
        self._rows.move_to_end(refusal)
        if len(self._rows) > KEPT:
            self._rows.popitem(last=False)
        self._log(refusal, error.note)

    def _log(self, refusal: Refusal, note: str) -> None:
        if not self._lines.admits(self._steady()):
            return
        route = refusal.route or ("an unknown path" if refusal.status == NotFound.http_status else "a page")
        called = f"{refusal.method} {route}{self._suffix}"
        logger.info(
            "refused %r from %r: %d %s%s%s",
            called,
            refusal.address,
            refusal.status,
            refusal.code,
            f", {note}" if note else "",
            self._lines.take_omitted(),
        )

    def rows(self) -> list[tuple[Refusal, Tally]]:
        """Return all rows, those that were met last first."""
        return list(reversed(self._rows.items()))
