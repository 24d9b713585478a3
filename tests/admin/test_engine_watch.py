"""Whether the engine is in reach, as the admin's pages and the history say it."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.admin_pages import data, watched
from tests.redis_server import running_redis
from tests.waiting import eventually

from channelstream.admin.engine_watch import EngineWatch
from channelstream.service import Node


def test_each_change_is_marked() -> None:
    """With how long it lasted; the time out of reach adds up, a part of it before the end as well."""
    clock, marks = SimpleNamespace(now_s=0.0), list[tuple[str, str]]()
    node = SimpleNamespace(
        is_engine_reachable=True, engine_name="redis", clock=SimpleNamespace(steady=lambda: clock.now_s)
    )
    watch = EngineWatch(cast(Node, node), lambda kind, text: marks.append((kind, text)), "one")
    for now_s, is_reachable in ((1.0, True), (2.0, False), (5.0, False), (9.0, True), (11.0, True)):
        clock.now_s, node.is_engine_reachable = now_s, is_reachable
        watch.look()
        if now_s == 5.0:
            assert (watch.is_reachable, watch.since_s, watch.away_s) == (False, 2.0, 3.0)
    assert (watch.is_reachable, watch.since_s, watch.away_s) == (True, 9.0, 7.0)
    assert marks == [
        ("engine lost", "one does not reach redis"),
        ("engine back", "one reaches redis again, after 7 s"),
    ]


def test_an_outage_of_redis_is_shown_and_marked(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """The figure says so while it lasts, the history has its begin and its end, and calls that failed."""
    with running_redis(tmp_path) as redis:
        node = start_server("--engine", redis.address, "--engine-timeout-s", "3")

        def figures() -> dict[str, Any]:
            [own] = watched(node)["nodes"]
            found: dict[str, Any] = own["figures"]
            return found

        def is_away_for(seconds: int) -> bool:
            found = figures()
            return not found["engine_reachable"] and bool(found["engine_for_s"] >= seconds)

        node.connect("ann", "a")
        assert figures().items() >= {"engine": "redis", "engine_reachable": True}.items()
        redis.signal(signal.SIGSTOP)
        eventually(lambda: not figures()["engine_reachable"], "its outage is not shown")
        assert (
            node.request("POST", "/message", [{"channel": "a", "user": "b", "message": 1}]).status_code == 503
        )
        eventually(lambda: is_away_for(1), "its time is not shown")
        redis.signal(signal.SIGCONT)
        eventually(lambda: figures()["engine_reachable"], "its return is not shown")
        node.connect("bob", "a")

        def is_kept() -> bool:
            found = data(node, "history")
            rows = [dict(zip(found["columns"], row, strict=True)) for row in found.get("rows", ())]
            kinds = [mark["kind"] for mark in found.get("marks", ())]
            return (
                {"engine lost", "engine back"} <= set(kinds)
                and sum(row["engine_failed"] for row in rows) > 0
                and sum(row["engine_away_s"] for row in rows) > 0
                and any(row["engine_p99_ms"] for row in rows)
            )

        eventually(is_kept, "the history lacks it")


def test_open_descriptors_are_shown_beside_their_limit(start_server: Any) -> None:
    """A further socket is one more."""
    node = start_server()
    limit = Path(f"/proc/{node.process.pid}/limits").read_text(encoding="ascii")
    [line] = [line for line in limit.splitlines() if line.startswith("Max open files")]
    found = watched(node)["figures"]
    opened = found["descriptors"]
    assert found["descriptor_limit"] == int(line.split()[3])
    assert abs(opened - len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))) <= 3
