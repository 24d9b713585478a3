"""The monitor feeds the decision with what was measured, and logs its turns."""

import pytest

from channelstream.config import Settings
from channelstream.core.shedding import NO_BOUND, Bound, Shedding, memory_bound
from channelstream.load_monitor import LoadMonitor
from channelstream.server import build


def test_the_log_says_when_shedding_begins_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Once each, though the monitor samples on."""
    shedding, figures = Shedding(), iter([(3 << 20, 0.0), (4 << 20, 1.0), (1, 2.0), (1, 7.0), (1, 8.0)])
    shedding.limit(memory_bound(2 << 20), NO_BOUND)
    now_s = 0.0

    def memory_bytes() -> int:
        nonlocal now_s
        memory, now_s = next(figures)
        return memory

    monitor = LoadMonitor(shedding, memory_bytes, lambda: now_s)
    for _ in range(5):
        monitor.sample()
    assert [record.getMessage() for record in caplog.records] == [
        "too much load (memory): new connections and long replays are refused; 3 MiB of memory, loop delay 0 ms",
        "the load has eased (memory): new connections are taken again",
    ]


def test_a_sample_has_the_longest_delay_since_the_one_before() -> None:
    shedding = Shedding()
    shedding.limit(NO_BOUND, Bound(1.0))
    monitor = LoadMonitor(shedding, lambda: 0, lambda: 0.0)
    seen = []
    for delays in ((0.5, 1.5, 0.1), (), (1.5,)):
        shedding.limit(NO_BOUND, Bound(1.0))
        for delay_s in delays:
            monitor.on_tick(delay_s)
        monitor.sample()
        seen.append(shedding.reason)
    assert seen == ["loop delay", "", "loop delay"]


def test_a_server_sheds_by_the_delays_of_its_watchdog() -> None:
    """Above `shed_loop_delay_ms`, in as many samples as it takes."""
    server = build(Settings(secret="x", admin_secret="y", shed_loop_delay_ms=1000))
    seen = []
    for _ in range(3):
        for observe in server.monitoring.watchdog.on_tick:
            observe(1.1)
        server.monitoring.load.sample()
        seen.append(server.node.shedding.reason)
    assert seen == ["", "", "loop delay"]


@pytest.mark.parametrize(("option", "expected"), [(0, "memory"), (1 << 40, "")])
def test_a_server_sheds_by_the_limit_of_its_cgroup(
    monkeypatch: pytest.MonkeyPatch, option: int, expected: str
) -> None:
    """Unless the option says otherwise."""
    monkeypatch.setattr("channelstream.load_monitor.cgroup_limit_bytes", lambda: 1000)
    server = build(Settings(secret="x", admin_secret="y", shed_memory_bytes=option))
    server.monitoring.load.sample()
    assert server.node.shedding.reason == expected
