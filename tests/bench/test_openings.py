"""The cost of opening streams, in small numbers."""

import pytest
import uvloop

from channelstream.bench.load import BenchFailed
from channelstream.bench.openings import KINDS, compare


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_a_stream_of_every_kind_is_opened_and_measured() -> None:
    """A refused stream ends the run."""
    rows = uvloop.run(compare([], 3, 1))
    assert list(rows) == list(KINDS)
    assert all(cpu_us > 0 for cpu_us in rows.values())
    with pytest.raises(BenchFailed, match="accepts no tokens"):
        uvloop.run(compare(["--token-max-age-s", "0"], 1, 1))
