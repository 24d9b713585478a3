"""The record of what admins did: kept by the engine beside the figures of the past, so it is that of all nodes.

It outlives a restart where the engine does. Each act is a line of the log as well.
"""

import logging
from operator import attrgetter
from typing import Any

import msgspec

from channelstream.admin.history import History
from channelstream.admin.shown import cut
from channelstream.core.line_limit import LineLimit
from channelstream.core.timestamps import stamp
from channelstream.pages.act import Act, Did
from channelstream.service import Record, Service

ACTS, SIGN_INS = "acts of application {}", "sign-ins of application {}"
"""The series; each application has its own. Strangers fail to sign in, and a reader signs in and out: neither must
push out what admins did."""
OF_SIGN_INS = frozenset({Did.SIGNED_IN, Did.SIGNED_OUT, Did.FAILED})
KEPT_S = 30 * 86_400.0
"""How long an act is kept: as long as a sign-in may last."""
SHOWN = 200
"""Most acts that are shown, and as many of sign-ins."""
NAME_CHARACTERS = 512
"""Most characters that are kept of a name; no valid name has more."""
LOGGED_CHARACTERS = 120
"""Most characters of a name in the log."""
FAILURES_A_MINUTE = 10
"""Most failed sign-ins that a node records in a minute."""

logger = logging.getLogger(__name__)


class Acts:
    """Records the acts of admins at this node, and reads those of all nodes."""

    def __init__(self, service: Service, history: History, app_id: str = "") -> None:
        """Create the record.

        Args:
            history: writes the acts, in order with what else waits to be written.
            app_id: of a further application, which the lines of the log name.
        """
        self._prefix = f"application {app_id}: " if app_id else ""
        self._app_id = service.app.id
        self._node = service.node
        self._history = history
        self._steady = service.clock.steady
        self._failures = LineLimit(FAILURES_A_MINUTE)

    def record(self, act: Act) -> None:
        """Write an act of this moment, and log it."""
        if act.did == Did.FAILED:
            if not self._failures.admits(self._steady()):
                return
            act = msgspec.structs.replace(act, more=act.more + self._failures.take_omitted())
        act = msgspec.structs.replace(act, name=act.name[:NAME_CHARACTERS])
        logger.info("%s%s", self._prefix, line_of(act))
        record = Record(self._node.clock.wall(), msgspec.msgpack.encode(act))
        series = SIGN_INS if act.did in OF_SIGN_INS else ACTS
        self._history.write(series.format(self._app_id), record, KEPT_S)

    async def read(self) -> list[dict[str, Any]]:
        """Return the newest acts, newest first.

        Raises:
            Unavailable: the engine is out of reach.
        """
        since_s = self._node.clock.wall() - KEPT_S
        records: list[Record] = []
        for series in (ACTS, SIGN_INS):
            records += await self._node.time_series.read(series.format(self._app_id), since_s, SHOWN)
        records.sort(key=attrgetter("at_s"))
        return [row for record in reversed(records) if (row := _row(record))]


def line_of(act: Act) -> str:
    """Return the line of the log. It has no `conn_id`, which is all that a client needs to open a stream."""
    who = f"admin {act.who!r}" if act.who else "somebody"
    name = "" if act.kind == "connection" else f" {act.name[:LOGGED_CHARACTERS]!r}"
    about = f" {'a connection' if act.kind == 'connection' else act.kind}{name}" if act.kind else ""
    return (
        f"{who} at {act.address or 'an unknown address'} {act.did}{about}{', ' if act.more else ''}{act.more}"
    )


def _row(record: Record) -> dict[str, Any] | None:
    """Return what a page shows of an act; None if it is of another version."""
    try:
        act = msgspec.msgpack.decode(record.data, type=Act)
    except msgspec.MsgspecError:
        return None
    return {"at": stamp(record.at_s), **msgspec.structs.asdict(act), "more": cut(act.more)}
