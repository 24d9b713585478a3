"""The state of an engine in memory on its way to another process, in records.

The form is that of the SQLite engine's rows, which is stored and restored anyway: a record is a table and some of its rows.
Times are those of the wall clock, since each process may have a steady clock of its own. The connections are not in it.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from channelstream.core.entry import Entry
from channelstream.core.position import Position
from channelstream.core.registry import Registry
from channelstream.engines.base import OTHER_ENGINE, Clock
from channelstream.engines.members import RestoredConnection
from channelstream.engines.sqlite_connections import connection_rows
from channelstream.engines.sqlite_file import Stored
from channelstream.engines.sqlite_rows import Row, channel_row, event_row, history_row, user_row
from channelstream.errors import CannotHandOver
from channelstream.slices import Slices

ROWS = 64
"""Most rows of a record."""
META, CHANNELS, USERS, EVENTS, HISTORY = "meta", "channels", "users", "events", "history"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, list[tuple[Any, ...]]]).decode


async def state_of(registry: Registry, position: Position, clock: Clock) -> AsyncIterator[bytes]:
    """Yield the records of a state, which nothing changes meanwhile.

    Args:
        position: the end of the log.
    """
    (epoch,), (committed,) = position.epochs, position.offsets
    offset_s = clock.wall() - clock.steady()
    slices = Slices(clock.steady)
    yield _encode((META, [("epoch", epoch), ("seq", committed)]))
    for table, rows in (
        (
            CHANNELS,
            _in_order_of_use(channel_row(each, committed, offset_s) for each in registry.channels.values()),
        ),
        (USERS, _in_order_of_use(user_row(each, offset_s) for each in registry.users.values())),
        (EVENTS, (event_row(each, each.at_s + offset_s) for each in _events(registry))),
        (HISTORY, (history_row(name, each, each.at_s + offset_s) for name, each in _histories(registry))),
    ):
        for record in _records(table, rows):
            yield record
            await slices.due()


def stored_of(records: Iterable[bytes], connections: Sequence[RestoredConnection]) -> Stored:
    """Return the contents of records, with the connections.

    Raises:
        CannotHandOver: a record cannot be read.
    """
    tables: dict[str, list[Row]] = {name: [] for name in (META, CHANNELS, USERS, EVENTS, HISTORY)}
    try:
        for record in records:
            table, rows = _decode(record)
            tables[table] += rows
        meta: dict[str, Any] = dict(tables.pop(META))
        return Stored(
            {"epoch": str(meta["epoch"]), "seq": meta["seq"]}, **tables, **connection_rows(connections)
        )
    except (ValueError, TypeError, KeyError) as error:
        raise CannotHandOver(OTHER_ENGINE) from error


def _in_order_of_use(rows: Iterable[Row]) -> list[Row]:
    """Return rows of channels or users as they are restored: the longest idle first, those in use last."""
    return sorted(rows, key=lambda row: (row[-1] is None, row[-1] or 0.0))


def _events(registry: Registry) -> list[Entry]:
    """Return the entries of all logs, each once, in the order of the log."""
    logs = [channel.log for channel in registry.channels.values()]
    logs += [user.log for user in registry.users.values()]
    found = {entry.offset: entry for log in logs for entry in log.entries}
    return [found[offset] for offset in sorted(found)]


def _histories(registry: Registry) -> list[tuple[str, Entry]]:
    found = [
        (name, entry) for name, channel in registry.channels.items() for entry in channel.history.entries
    ]
    return sorted(found, key=lambda each: each[1].offset)


def _records(table: str, rows: Iterable[Row]) -> Iterator[bytes]:
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == ROWS:
            yield _encode((table, waiting))
            waiting = []
    if waiting:
        yield _encode((table, waiting))
