"""The connections in the SQLite engine's file, so that clients resume after a crash without their application.

A connection is a row, and each of its channels is a row too, with the range of the log that it may read. The engine writes
changes: to join one more of 1,000 channels costs one row, and no second list of channels is in memory. Three rules make the
file right after a crash:

- All that one turn of the event loop changes is one transaction (`GroupCommit.together`). So a join and its announcement
  are in the file both or not at all.
- A connection that ends is deleted with the first of its leave events, or before. After a crash in between, its
  user is still among `members`, and the restart announces that it has left.
- The rows count only for the run that wrote them (`SqliteFile`). A version that keeps no connections, or a backup in the
  place of the file, would leave connections in it that have ended since.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.position import ReadRange
from channelstream.engines.members import Member, RestoredConnection
from channelstream.engines.registrations import Registrations
from channelstream.engines.sqlite_rows import Bulk, Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS connections (
  id TEXT PRIMARY KEY, user TEXT NOT NULL, protocol TEXT NOT NULL, presence INTEGER NOT NULL,
  joined INTEGER NOT NULL, since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscriptions (
  connection TEXT NOT NULL, channel TEXT NOT NULL, joined INTEGER NOT NULL, since INTEGER NOT NULL,
  PRIMARY KEY (connection, channel)
) WITHOUT ROWID;
"""
"""`joined` and `since` are a `ReadRange`, in `connections` that of the private messages. Older files have neither table."""
READ_CONNECTIONS = "SELECT id, user, protocol, presence, joined, since FROM connections ORDER BY id"
READ_SUBSCRIPTIONS = (
    "SELECT connection, channel, joined, since FROM subscriptions ORDER BY connection, channel"
)
EMPTY_TABLES = ("DELETE FROM connections", "DELETE FROM subscriptions")

PUT_CONNECTIONS = Bulk("INSERT OR REPLACE INTO connections VALUES", 6)
PUT_SUBSCRIPTIONS = Bulk("INSERT OR REPLACE INTO subscriptions VALUES", 4)
DROP_CONNECTIONS = Bulk("DELETE FROM connections WHERE id IN (VALUES", 1, ")")
DROP_ALL_SUBSCRIPTIONS = Bulk("DELETE FROM subscriptions WHERE connection IN (VALUES", 1, ")")
DROP_SUBSCRIPTIONS = Bulk("DELETE FROM subscriptions WHERE (connection, channel) IN (VALUES", 2, ")")

_ConnectionRow = tuple[str, str, str, int, int, int]
_SubscriptionRow = tuple[str, str, int, int]


def registration_writes(changes: Registrations) -> list[tuple[Bulk, Sequence[Row]]]:
    """Return the statements that write changes of connections."""
    ended = [(conn_id,) for conn_id in changes.ended]
    changed = [
        (conn_id, *each) for conn_id, channels in changes.channels.items() for each in channels.items()
    ]
    return [
        (DROP_CONNECTIONS, ended),
        (DROP_ALL_SUBSCRIPTIONS, ended),
        (PUT_CONNECTIONS, [_connection_row(*each) for each in changes.connected.values()]),
        (DROP_SUBSCRIPTIONS, [(conn_id, name) for conn_id, name, joined in changed if joined is None]),
        (PUT_SUBSCRIPTIONS, [(conn_id, name, *joined) for conn_id, name, joined in changed if joined]),
    ]


def _connection_row(member: Member, private: ReadRange) -> Row:
    return member.conn_id, member.user, member.protocol.name, int(member.protocol.presence), *private


def connection_rows(connections: Iterable[RestoredConnection]) -> dict[str, list[Row]]:
    """Return the rows of connections in both tables, by their names."""
    found, channels = list[Row](), list[Row]()
    for each in connections:
        found.append(_connection_row(each.member, each.private))
        channels += [(each.member.conn_id, name, *both) for name, both in each.channels.items()]
    return {"connections": found, "subscriptions": channels}


def read_subscriptions(rows: list[Row]) -> dict[str, dict[str, ReadRange]]:
    """Return the channels of each connection, by its id.

    Raises:
        ValueError: a row is none of this version's.
    """
    channels: defaultdict[str, dict[str, ReadRange]] = defaultdict(dict)
    for conn_id, name, joined, since in msgspec.convert(rows, list[_SubscriptionRow]):
        channels[conn_id][name] = ReadRange(joined, since)
    return channels


def read_connections(rows: list[Row]) -> list[tuple[Member, ReadRange]]:
    """Return connections with the read ranges of their users' private messages.

    Raises:
        ValueError: a row is none of this version's.
    """
    protocols: dict[tuple[str, int], ClientProtocol] = {}  # One object for all connections of a protocol.
    found = []
    for conn_id, user, name, presence, joined, since in msgspec.convert(rows, list[_ConnectionRow]):
        protocol = protocols.get((name, presence))
        if protocol is None:
            protocol = protocols[name, presence] = ClientProtocol(name, PresenceAudience(presence))
        found.append((Member(conn_id, user, protocol), ReadRange(joined, since)))
    return found
