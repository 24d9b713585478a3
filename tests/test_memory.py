"""The memory of the process, and the limit of its cgroup."""

from pathlib import Path

import pytest

from channelstream import memory
from channelstream.config import Settings
from channelstream.load_monitor import default_bound_bytes
from channelstream.memory import ResidentMemory, cgroup_limit_bytes
from channelstream.server import build


def limit(directory: Path, group: str, **limits: str) -> int:
    """Return the limit of a process in a group; `limits` are those of the groups by their names, root is the outermost."""
    (directory / "of_process").write_text(group)
    for name, text in limits.items():
        folder = directory / "tree" / name.removeprefix("root").replace("_", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(text)
    return cgroup_limit_bytes(directory / "of_process", directory / "tree")


def test_the_process_has_memory() -> None:
    assert ResidentMemory().read() > 1 << 20


def test_the_last_value_counts_where_it_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no descriptor is left; it must not end what takes the samples."""
    resident = ResidentMemory()
    last = resident.read()
    monkeypatch.setattr(memory, "_STATM", Path("/nonexistent/statm"))
    assert resident.read() == last


def test_a_process_without_descriptors_is_still_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the load monitor and the samples of the admin pages: an error would end the task of each for ever."""
    server = build(Settings(secret="x", admin_secret="y", shed_loop_delay_ms=1000))
    monkeypatch.setattr(memory, "_STATM", Path("/nonexistent/statm"))
    for _ in range(3):
        for observe in server.monitoring.watchdog.on_tick:
            observe(1.1)
        server.monitoring.load.sample()
        server.monitoring.sampler.take(1.1)
    assert server.node.shedding.reason == "loop delay"
    assert server.monitoring.sampler.count == 3


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("0::/\n", {"root": "1000\n"}, 1000),
        ("0::/system/unit\n", {"system_unit": "1000\n", "system": "max\n"}, 1000),
        ("0::/system/unit\n", {"system_unit": "2000\n", "system": "1000\n"}, 1000),
        ("0::/system/unit\n", {"system_unit": "max\n"}, 0),
        ("0::/../other\n", {"root": "1000\n"}, 0),
        ("4:memory:/old\n", {"old": "1000\n"}, 0),
        ("nonsense\n", {"root": "1000\n"}, 0),
    ],
)
def test_the_smallest_limit_around_a_process_counts(
    tmp_path: Path, group: str, limits: dict[str, str], expected: int
) -> None:
    assert limit(tmp_path, group, **limits) == expected


@pytest.mark.parametrize(
    ("line", "limits", "expected"),
    [
        ("4:memory:/a/b", {"a/b": 2000, "a": 1000}, 1000),
        ("4:cpu,memory:/a", {"a": 1000, "": 9_223_372_036_854_771_712}, 1000),
        ("4:memory:/docker/of-the-host", {"": 1000}, 1000),
        ("4:memory:/", {"": 9_223_372_036_854_771_712}, 0),
        ("4:cpu,memory_of_another:/a", {"a": 1000}, 0),
        ("4:memory:/../a", {"": 1000}, 0),
    ],
)
def test_limits_of_version_1_are_read(
    tmp_path: Path, line: str, limits: dict[str, int], expected: int
) -> None:
    """Beside the line of version 2, which has no memory then; in a container the root has the limit."""
    (tmp_path / "of_process").write_text(f"12:cpu:/a\n{line}\n0::/a\n")
    for group, number in limits.items():
        folder = tmp_path / "tree" / "memory" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{number}\n")
    assert cgroup_limit_bytes(tmp_path / "of_process", tmp_path / "tree") == expected


def test_a_system_without_cgroups_has_no_limit(tmp_path: Path) -> None:
    assert cgroup_limit_bytes(tmp_path / "none", tmp_path) == 0


def test_workers_divide_the_limit() -> None:
    assert [default_bound_bytes(*each) for each in ((1000, 1), (1000, 3), (0, 3))] == [900, 300, 0]
