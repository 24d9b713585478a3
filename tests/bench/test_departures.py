"""Members that leave at once, in small numbers."""

import pytest
import uvloop

from channelstream.bench import departures
from channelstream.bench.servers import product


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_each_departure_is_received_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By each member that stays."""
    monkeypatch.setattr(departures, "PROBED_S", {"good-bye": 2.0})

    async def measured() -> dict[str, object]:
        async with product() as target:
            return await departures.storm(target, "good-bye", 5, 2, with_lists=True)

    row = uvloop.run(measured())
    assert row["each received once"]
    assert row["longest wait ms"] > 0
