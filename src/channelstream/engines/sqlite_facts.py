"""The facts of the outbox in the SQLite engine's file: the tables, and what a batch writes of them.

A fact is in the file with the membership that it reports, in one transaction. After a crash a member may be gone whose leave
was never written: it had left memory only, or the file is another one. So the file also has what has begun and not ended
(`begun_facts`), and a start makes the facts that end it.
"""

from collections.abc import Iterable, Sequence

from channelstream.apps.wanted_facts import app_of
from channelstream.core.facts import ENDS, Fact, encode, end_of, kind_of, public_id, subject_of
from channelstream.core.registry import Registry
from channelstream.engines.members import RestoredConnection
from channelstream.engines.sqlite_rows import Bulk, Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS app_facts (
  number INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS app_facts_by_app ON app_facts (app, number);
CREATE TABLE IF NOT EXISTS fact_cursors (consumer TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS begun_facts (
  kind TEXT NOT NULL, place TEXT NOT NULL, other TEXT NOT NULL, PRIMARY KEY (kind, place, other)
) WITHOUT ROWID;
"""
"""`data` is a fact of an application in its stored form. `place` and `other` are the subject of a fact; `other` is empty if
it has one field only. Older files have none of these tables."""

READ_BEGUN = "SELECT kind, place, other FROM begun_facts ORDER BY kind, place, other"

PUT_FACTS = Bulk("INSERT INTO app_facts (app, data) VALUES", 2)
DROP_FACTS = Bulk(
    "WITH passed (app, number) AS (VALUES",
    2,
    ") DELETE FROM app_facts WHERE number IN (SELECT facts.number FROM passed JOIN app_facts AS facts"
    " ON facts.app = passed.app AND facts.number <= passed.number)",
)
"""Drop the facts of each application up to a number."""
PUT_BEGUN = Bulk("INSERT OR REPLACE INTO begun_facts VALUES", 3)
DROP_BEGUN = Bulk("DELETE FROM begun_facts WHERE (kind, place, other) IN (VALUES", 3, ")")
PUT_CURSORS = Bulk("INSERT INTO fact_cursors VALUES", 2)
TABLES = ("app_facts", "fact_cursors", "begun_facts")
EMPTY = {
    table: Bulk(f"DELETE FROM {table} WHERE 1 IN (VALUES", 1, ")")  # noqa: S608 - names of our own
    for table in TABLES
}
"""Delete all rows of each table, if their only row is 1."""

_BEGINNING = {kind_of(ended): kind_of(begun) for begun, ended in ENDS.items()}
"""The kind of what each kind ends."""
_ORDER = [kind_of(begun) for begun in ENDS]


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
            case _:
                return user is not None and user.connections > 0

    ended = sorted((row for row in begun if not goes_on(*row)), key=lambda row: _ORDER.index(row[0]))
    return [end_of(kind, (place, other), registry.new_id(), at_ms) for kind, place, other in ended]
