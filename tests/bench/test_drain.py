"""The return of the clients of a node that stops: what is measured, and which faults make a run wrong."""

import shutil

import pytest
import uvloop
from msgspec.structs import replace

from channelstream.bench.drain import drain
from channelstream.bench.load import Load
from channelstream.bench.progress import Progress
from channelstream.bench.results import Drained, Measured, Percentiles

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")


@needs_redis
@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_clients_of_a_node_that_stops_are_back_at_another() -> None:
    """Each loses its stream once, by 1012, and nothing else; the calls of the other node are measured meanwhile."""
    measured = uvloop.run(
        drain(
            Load(clients=3, messages=0),
            ("--drain-spread-s", "0.2"),
            Progress(None),
            jitter=lambda: 0.1,
            before_s=0.2,
            nodes=2,
        )
    )
    drained = measured.drained
    assert drained is not None
    assert measured.is_right, drained
    assert (drained.clients, drained.ends["closed (1012)"]) == (3, 3)
    assert drained.back_s > 0
    assert min(drained.before_ms.samples, drained.during_ms.samples) > 0


@pytest.mark.parametrize("fault", ["failed", "lost", "missing", "repeated"])
def test_a_fault_makes_the_run_wrong(fault: str) -> None:
    """A call that failed counts as well."""
    none = Percentiles(2, 1.0, 1.0, 1.0, 1.0, 1.0)
    right = Drained(
        clients=2, back_s=1.0, before_ms=none, during_ms=none, failed=0, ends={"closed (1012)": 2},
        lost=0, missing=0, repeated=0,
    )  # fmt: skip
    assert Measured(drained=right).is_right
    assert not Measured(drained=replace(right, **{fault: 1})).is_right
