"""Estimates for very many connections from the measurements; docs/scaling.md explains them."""

from collections.abc import Mapping

from channelstream.bench.engines.operations import CONNECT, DISCONNECT, OPEN, PUBLISH, id_of
from channelstream.bench.engines.table import Row, Table, significant
from channelstream.core.position import MAX_SHARDS

CONNECTIONS = (1, 10, 100)
"""In millions."""
PER_WORKER = 15_000
"""Connections of a worker: the most that docs/performance.md has measured."""
KB_EACH = 4.5
"""Memory of a worker for each connection, from docs/performance.md."""
SESSION_S = 600
PORT_BYTES_PER_S = 10e9 / 8
LEAST_US = 0.1
"""Least CPU per receiving node, used if the measured value is lower, as in very short runs."""
_CPU = "CPU of Redis, µs"


def estimates(tables: Mapping[str, Table]) -> list[Table]:
    """Return the tables, computed from the measured ones."""
    one, many = tables["operations"], tables[id_of(MAX_SHARDS)]
    return [_limits(tables, one, many), _at_scale(tables, one, many)]


def _limits(tables: Mapping[str, Table], one: Table, many: Table) -> Table:
    """Return the table of the load that saturates the masters."""
    columns = [
        "CPU of Redis for a session, µs",
        "sessions/s",
        "million connections",
        "CPU for a publish, µs",
        "publishes/s",
        "registering a million again, s",
    ]
    recovery = tables["recovery"]
    recovery_us = {
        shards: recovery.figure(shards, "CPU of Redis each, µs") for shards in ("Redis", "3 shards")
    }
    rows = [
        _limit("one Redis", 1, one, recovery_us["Redis"], columns),
        _limit(f"{MAX_SHARDS} masters", MAX_SHARDS, many, recovery_us["3 shards"], columns),
    ]
    title = f"Masters that are full; a session takes {SESSION_S} s, and registering again in shards is that of three."
    return Table("limits", title, columns, rows)


def _limit(name: str, masters: int, table: Table, recovery_us: float, columns: list[str]) -> Row:
    session_us, publish_us = _session_us(table), table.figure(PUBLISH, _CPU)
    sessions = masters * 1e6 / session_us
    figures = [
        session_us,
        sessions,
        sessions * SESSION_S / 1e6,
        publish_us,
        masters * 1e6 / publish_us,
        recovery_us / masters,
    ]
    return Row(name, [significant(figure) for figure in figures])


def _session_us(table: Table) -> float:
    return sum(table.figure(step, _CPU) for step in (CONNECT, OPEN, DISCONNECT))


def _at_scale(tables: Mapping[str, Table], one: Table, many: Table) -> Table:
    columns = [
        "workers",
        "memory of the nodes, GB",
        "of Redis, GB",
        "sessions/s",
        "full cores of Redis, 1 shard",
        f"{MAX_SHARDS} shards",
        "connections of each master",
        "a publish received by all nodes, KB",
        "of these, /s, by CPU",
        "by 10 Gbit/s",
    ]
    [member] = tables["memory"].rows
    bytes_each, cpu_us_each = _by_node(tables["listeners"])
    rows = []
    for millions in CONNECTIONS:
        connections = millions * 1e6
        workers, sessions = connections / PER_WORKER, connections / SESSION_S
        figures = [
            workers,
            connections * KB_EACH / 1e6,
            connections * member.figures[0] / 1e9,
            sessions,
            sessions * _session_us(one) / 1e6,
            sessions * _session_us(many) / 1e6,
            2 * workers,
            workers * bytes_each / 1e3,
            1e6 / (workers * cpu_us_each),
            PORT_BYTES_PER_S / (workers * bytes_each),
        ]
        rows.append(Row(f"{millions} million", [significant(figure) for figure in figures]))
    title = f"{PER_WORKER:,} connections for each worker, sessions of {SESSION_S} s, one channel each."
    return Table("very-many", title, columns, rows)


def _by_node(table: Table) -> tuple[float, float]:
    """Bytes and CPU of Redis for each further node that receives a publish: the slope between the fewest and most nodes."""
    first, last = table.rows[0], table.rows[-1]
    nodes = int(last.name.split()[0]) - int(first.name.split()[0])
    each = [
        (table.figure(last.name, column) - table.figure(first.name, column)) / nodes
        for column in ("bytes out", _CPU)
    ]
    return each[0], max(each[1], LEAST_US)
