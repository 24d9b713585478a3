"""The facts of the outbox in the SQLite engine's file: the tables, and what a batch writes of them.

A fact is in the file with the membership that it reports, in one transaction. After a crash a member may be gone whose leave
was never written: it had left memory only, or the file is another one. So the file also has what has begun and not ended
(`begun_facts`), and a start makes the facts that end it.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from channelstream.apps.keys import DEFAULT
from channelstream.apps.wanted_facts import app_of
from channelstream.core.facts import ENDS, Fact, decode, encode, end_of, kind_of, public_id, subject_of
from channelstream.core.registry import Registry
from channelstream.engines.members import RestoredConnection
from channelstream.engines.sqlite_rows import Bulk, Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
  number INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL, app TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS fact_cursors (consumer TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS begun_facts (
  kind TEXT NOT NULL, place TEXT NOT NULL, other TEXT NOT NULL, PRIMARY KEY (kind, place, other)
) WITHOUT ROWID;
"""
"""`data` is a fact of an application in its stored form. `place` and `other` are the subject of a fact; `other` is empty if
it has one field only. Older files have none of these tables, or `facts` without `app` (`prepare`)."""

READ_BEGUN = "SELECT kind, place, other FROM begun_facts ORDER BY kind, place, other"

PUT_FACTS = Bulk("INSERT INTO facts (app, data) VALUES", 2)
DROP_FACTS = Bulk(
    "WITH passed (app, number) AS (VALUES",
    2,
    ") DELETE FROM facts WHERE number IN (SELECT each.number FROM passed JOIN facts AS each"
    " ON each.app = passed.app AND each.number <= passed.number)",
)
"""Drop the facts of each application up to a number."""
PUT_BEGUN = Bulk("INSERT OR REPLACE INTO begun_facts VALUES", 3)
DROP_BEGUN = Bulk("DELETE FROM begun_facts WHERE (kind, place, other) IN (VALUES", 3, ")")
PUT_CURSORS = Bulk("INSERT INTO fact_cursors VALUES", 2)
TABLES = ("facts", "fact_cursors", "begun_facts")
EMPTY = {
    table: Bulk(f"DELETE FROM {table} WHERE 1 IN (VALUES", 1, ")")  # noqa: S608 - names of our own
    for table in TABLES
}
"""Delete all rows of each table, if their only row is 1."""

_BEGINNING = {kind_of(ended): kind_of(begun) for begun, ended in ENDS.items()}
"""The kind of what each kind ends."""
_ORDER = [kind_of(begun) for begun in ENDS]


def prepare(database: sqlite3.Connection) -> None:
    """Make the tables, and give each fact that an older version has written its application.

    An older version may use the file again: it writes and reads `facts` without `app`, by the same numbers.
    """
    database.executescript(SCHEMA)
    if not any(column[1] == "app" for column in database.execute("PRAGMA table_info(facts)")):
        database.execute("ALTER TABLE facts ADD COLUMN app TEXT NOT NULL DEFAULT ''")
    database.execute("CREATE INDEX IF NOT EXISTS facts_by_app ON facts (app, number)")
    database.create_function("app_of", 1, _app_of)
    database.execute("UPDATE facts SET app = app_of(data) WHERE app = ''")


def _app_of(data: bytes) -> str:
    fact = decode(data)
    return DEFAULT if fact is None else app_of(fact)


def fact_writes(facts: Iterable[Fact]) -> list[tuple[Bulk, Sequence[Row]]]:
    """Return the statements that write the facts of a batch; call it in the thread, since it encodes."""
    rows: list[Row] = []
    begun: dict[Row, bool] = {}
    for fact in facts:
        rows.append((app_of(fact), encode(fact)))
        kind = kind_of(fact)
        if kind in _ORDER:
            begun[_begun_row(kind, fact)] = True
        elif kind in _BEGINNING:
            begun[_begun_row(_BEGINNING[kind], fact)] = False
    return [
        (PUT_FACTS, rows),
        (PUT_BEGUN, [row for row, is_begun in begun.items() if is_begun]),
        (DROP_BEGUN, [row for row, is_begun in begun.items() if not is_begun]),
    ]


def _begun_row(kind: str, fact: Fact) -> Row:
    place, *other = subject_of(fact)
    return kind, place, *(other or ("",))


def ends(
    begun: Iterable[Row], registry: Registry, restored: Iterable[RestoredConnection], at_ms: int
) -> list[Fact]:
    """Return the facts that end what has begun in an earlier run, and is not any more.

    Args:
        begun: the rows of `begun_facts`.
        registry: with the connections that are restored.
        at_ms: when they end, for the receivers of webhooks.
    """
    connections = {public_id(each.member.conn_id) for each in restored}

    def goes_on(kind: str, place: str, other: str) -> bool:
        channel, user = registry.channels.get(place), registry.users.get(place)
        match kind:
            case "added":
                return channel is not None and other in channel.users
            case "occupied":
                return channel is not None and channel.connections > 0
            case "opened":
                return other in connections
            case "online":
                return user is not None and user.connections > 0
            case _:  # A later version has begun it, and knows whether it goes on.
                return True

    ended = sorted((row for row in begun if not goes_on(*row)), key=lambda row: _ORDER.index(row[0]))
    return [end_of(kind, (place, other), registry.new_id(), at_ms) for kind, place, other in ended]
