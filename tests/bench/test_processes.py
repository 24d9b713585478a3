"""Figures of the kernel about processes."""

import os
import subprocess
import sys

import pytest
from tests.waiting import eventually

from channelstream.bench.load import BenchFailed
from channelstream.bench.processes import check_pid, cpu_s, family, machine, memory_kb

NO_PID = 1 << 22
"""Above the greatest that Linux gives."""
TICK_NS = 10_000_000
"""In `/proc/PID/stat`, if the kernel counts 100 a second."""


def test_the_own_process_has_time_and_memory() -> None:
    """A process has used time and memory."""
    assert cpu_s(os.getpid()) > 0
    assert memory_kb(os.getpid()) > 1000


def test_time_is_exact() -> None:
    """The time of a process that waits is all that it has used, and is not rounded to the kernel's ticks."""
    code = "import time\nprint(time.process_time_ns(), flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        used_s = int(child.stdout.readline()) / 1e9
        eventually(lambda: cpu_s(child.pid) >= used_s, "time is missing")
        found_ns = round(cpu_s(child.pid) * 1e9)
        child.communicate(b"\n")
    assert found_ns % TICK_NS


def test_children_count_until_they_have_ended() -> None:
    """Children belong to a process, and no longer when they have ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in family(os.getpid())
    child.communicate(b"\n")
    assert child.pid not in family(os.getpid())


def test_an_unknown_process_is_reported() -> None:
    """A process that does not exist is reported; one that has just ended counts nothing."""
    with pytest.raises(BenchFailed, match=f"no process {NO_PID}"):
        check_pid(NO_PID)
    assert (cpu_s(NO_PID), memory_kb(NO_PID)) == (0, 0)


def test_the_machine_is_described_without_its_name() -> None:
    """The machine is described without its name."""
    described = machine()
    assert described.cores >= 1
    assert described.cpu
    assert os.uname().nodename not in f"{described}"


def test_a_worker_starts_without_the_settings() -> None:
    """It imports its protocols, and neither the options of a server nor the version, which double the time."""
    code = "import sys, channelstream.bench.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"channelstream.config", "importlib.metadata"}.isdisjoint(loaded.split())
