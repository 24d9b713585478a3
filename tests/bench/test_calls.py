"""The cost of calls, in small numbers."""

import pytest
import uvloop

from channelstream.bench.calls import CALLS, compare


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_every_call_is_accepted_and_measured() -> None:
    """A refused call would end the run."""
    rows = uvloop.run(compare([], 2, 40, 1))
    assert list(rows) == list(CALLS)
    assert all(cpu_us > 0 for cpu_us in rows.values())
