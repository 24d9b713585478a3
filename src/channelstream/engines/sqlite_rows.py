"""The tables of the SQLite engine, and the form of events, channels and users as their rows.

One accepted event is one row in `events`, however many users it has, and logs and histories are restored from it. So
a publish costs one row. A message whose event was trimmed, but which the history still shows, has a row in `history`.
Column names and kinds are stored: they keep their names (`seq` is the offset).
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.idle import LONG_AGO_S
from channelstream.core.user import User
from channelstream.engines import event_codec
from channelstream.engines.time_series import SERIES_RECORDS

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, channel TEXT, user TEXT,
  kind TEXT NOT NULL, body BLOB NOT NULL, payload BLOB
);
CREATE INDEX events_by_place ON events (channel, user, seq);
CREATE TABLE history (
  channel TEXT NOT NULL, uuid TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL,
  kind TEXT NOT NULL, body BLOB NOT NULL, payload BLOB, PRIMARY KEY (channel, uuid)
) WITHOUT ROWID;
CREATE TABLE channels (
  name TEXT PRIMARY KEY, id TEXT NOT NULL, settings BLOB NOT NULL,
  log_floor INTEGER NOT NULL, history_floor INTEGER NOT NULL, last_active REAL
) WITHOUT ROWID;
CREATE TABLE users (
  name TEXT PRIMARY KEY, id TEXT NOT NULL, state BLOB NOT NULL, public_keys BLOB NOT NULL,
  log_floor INTEGER NOT NULL, last_active REAL
) WITHOUT ROWID;
CREATE TABLE members (
  channel TEXT NOT NULL, user TEXT NOT NULL, announced INTEGER NOT NULL, PRIMARY KEY (channel, user)
) WITHOUT ROWID;
"""
"""`at` and `last_active` are times of the file's own clock, in seconds (`sqlite_restore.py`). `user` is the recipient of a
private message that has only one. A `last_active` of NULL means in use, `BRIEF_ACTIVE_S` a brief channel. `members` are
those whose join was announced."""

BRIEF_ACTIVE_S = -LONG_AGO_S
"""The `last_active` of a brief channel (`Channel.is_brief`), in use or not: it has no idle time that would count."""

TIME_SERIES_SCHEMA = """
CREATE TABLE IF NOT EXISTS time_series (series TEXT NOT NULL, at REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS time_series_by_time ON time_series (series, at);
"""
"""`at` is the time of day. Older files have no such table."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement that takes many rows at once.

    It is called once and not once per row: each call releases the interpreter lock, and waits for a busy event loop to
    get it back.
    """

    before: str
    columns: int
    after: str = ""

    def sql(self, rows: int) -> str:
        row = f"({','.join('?' * self.columns)})"
        return f"{self.before} {','.join([row] * rows)} {self.after}"


PUT_META = Bulk("INSERT OR REPLACE INTO meta VALUES", 2)
PUT_EVENTS = Bulk("INSERT OR REPLACE INTO events VALUES", 7)
PUT_HISTORY = Bulk("INSERT OR REPLACE INTO history VALUES", 7)
PUT_CHANNELS = Bulk(
    "INSERT INTO channels VALUES",
    6,
    "ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, log_floor = max(log_floor, excluded.log_floor),"
    " history_floor = excluded.history_floor, last_active = excluded.last_active",
)
RAISE_FLOORS = Bulk(
    "WITH floors (channel, floor) AS (VALUES",
    2,
    ") UPDATE channels SET log_floor = max(log_floor, (SELECT floor FROM floors WHERE channel = channels.name))"
    " WHERE name IN (SELECT channel FROM floors)",
)
RAISE_USER_FLOORS = Bulk(
    "WITH floors (user, floor) AS (VALUES",
    2,
    ") UPDATE users SET log_floor = max(log_floor, (SELECT floor FROM floors WHERE user = users.name))"
    " WHERE name IN (SELECT user FROM floors)",
)
PUT_USERS = Bulk(
    "INSERT INTO users VALUES",
    6,
    "ON CONFLICT (name) DO UPDATE SET state = excluded.state, public_keys = excluded.public_keys,"
    " log_floor = max(log_floor, excluded.log_floor), last_active = excluded.last_active",
)
PUT_MEMBERS = Bulk("INSERT OR REPLACE INTO members VALUES", 3)
DROP_MEMBERS = Bulk("DELETE FROM members WHERE (channel, user) IN (VALUES", 2, ")")
DROP_USERS = Bulk("DELETE FROM users WHERE name IN (VALUES", 1, ")")
DROP_CHANNELS = tuple(
    Bulk(f"DELETE FROM {table} WHERE {column} IN (VALUES", 1, ")")  # noqa: S608 - names of our own
    for table, column in (
        ("channels", "name"),
        ("events", "channel"),
        ("history", "channel"),
        ("members", "channel"),
    )
)
DROP_HISTORY = Bulk("DELETE FROM history WHERE (channel, uuid) IN (VALUES", 2, ")")
TRIM_HISTORY = Bulk(
    "WITH floors (channel, floor) AS (VALUES",
    2,
    ") DELETE FROM history WHERE (channel, uuid) IN (SELECT h.channel, h.uuid FROM floors CROSS JOIN history AS h"
    " ON h.channel = floors.channel AND h.seq <= floors.floor)",
)
DROP_EVENTS = Bulk("DELETE FROM events WHERE seq IN (VALUES", 1, ")")
PUT_RECORDS = Bulk("INSERT INTO time_series VALUES", 3)
_LAST_KEPT = "SELECT at FROM time_series WHERE series = old.column1 ORDER BY at DESC LIMIT 1 OFFSET"
DROP_OLD_RECORDS = Bulk(
    "DELETE FROM time_series WHERE rowid IN (SELECT each.rowid FROM time_series AS each JOIN (VALUES",
    2,
    ") AS old ON each.series = old.column1 AND each.at <"
    f" max(old.column2, ifnull(({_LAST_KEPT} {SERIES_RECORDS - 1}), old.column2)))",
)
"""Drops what is older than a time, or than the newest `SERIES_RECORDS`: in 30 us where a series has 1,440."""
DROP_LATER = Bulk("DELETE FROM events WHERE seq > (VALUES", 1, ")")
TRIM_EVENTS = Bulk(
    "WITH floors (channel, floor) AS (VALUES",
    2,
    ") DELETE FROM events WHERE seq IN (SELECT e.seq FROM floors CROSS JOIN events AS e"
    " ON e.channel = floors.channel AND e.user IS NULL AND e.seq <= floors.floor)",
)
TRIM_PRIVATE = Bulk(
    "WITH floors (user, floor) AS (VALUES",
    2,
    ") DELETE FROM events WHERE seq IN (SELECT e.seq FROM floors CROSS JOIN events AS e"
    " ON e.channel IS NULL AND e.user = floors.user AND e.seq <= floors.floor)",
)
AGE_USERS = Bulk(
    "WITH old (at) AS (VALUES",
    1,
    ") UPDATE users SET log_floor = gone.seq FROM"
    " (SELECT names.value AS name, max(e.seq) AS seq"
    " FROM old CROSS JOIN events AS e, json_each(CAST(e.body AS TEXT), '$.only') AS names"
    " WHERE e.channel IS NULL AND e.at < old.at GROUP BY names.value) AS gone"
    " WHERE users.name = gone.name AND users.log_floor < gone.seq",
)
"""Raises the floors of users above the private messages that `AGE_PRIVATE` deletes next."""
AGE_PRIVATE = Bulk("DELETE FROM events WHERE channel IS NULL AND at < (VALUES", 1, ")")


_encode = msgspec.json.Encoder().encode


def event_columns(event: Event) -> Row:
    """Return an event as kind, body and payload (`event_codec.py`)."""
    return event_codec.kind_of(event), *event_codec.encode(event)


def read_event(kind: str, body: bytes, payload: bytes | None) -> Event:
    """Return the event of the columns that `event_columns` made.

    Raises:
        UnreadableEvent: see `event_codec.decode`.
    """
    if not isinstance(payload, bytes | None):
        raise event_codec.UnreadableEvent(
            f"an event of kind {kind!r} that this version of channelstream cannot read"
        )
    return event_codec.decode(body, payload, kind)


def event_row(entry: Entry, at: float) -> Row:
    """Return the row of an event in `events`."""
    event = entry.event
    sole = next(iter(event.only)) if event.channel is None and event.only and len(event.only) == 1 else None
    return entry.offset, at, event.channel, sole, *event_columns(event)


def history_row(channel: str, entry: Entry, at: float) -> Row:
    """Return the row of a message in `history`."""
    return channel, entry.event.uuid, entry.offset, at, *event_columns(entry.event)


def channel_row(channel: Channel, committed: int, clock_offset_s: float) -> Row:
    """Return the row of a channel in `channels`.

    Args:
        committed: the last committed offset; an empty history shows nothing up to there.
        clock_offset_s: seconds from the engine's clock to that of the file.
    """
    shown = channel.history.entries
    history_floor = shown[0].offset - 1 if shown else committed
    idle_since_s = None if channel.connections else channel.idle_since_s + clock_offset_s
    active_s = BRIEF_ACTIVE_S if channel.is_brief else idle_since_s
    return channel.name, channel.id, _encode(channel.settings), channel.log.floor, history_floor, active_s


def user_row(user: User, clock_offset_s: float) -> Row:
    """Return the row of a user in `users`; `clock_offset_s` as for a channel."""
    active_s = None if user.connections else user.idle_since_s + clock_offset_s
    return user.name, user.id, _encode(user.state), _encode(user.public_keys), user.log.floor, active_s
