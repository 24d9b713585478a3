"""Upgrades under load: what is read of their output, which faults make a run wrong, and one run."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import uvloop
from msgspec.structs import replace

from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.processes import machine
from channelstream.bench.progress import Progress
from channelstream.bench.publishing import Addressed
from channelstream.bench.results import FORMAT, Measured, Percentiles, Report, StepReport, Upgrade, Upgraded
from channelstream.bench.text import report_text
from channelstream.bench.upgrade import Calls, Succession, TimedPublisher, handed_over, loads_of, upgrade
from channelstream.bench.wire import Wire

WAITS = Percentiles(2, 1.0, 1.0, 212.0, 212.0, 240.0)
OUTPUT = [
    "upgraded from 1.0 to 1.1: process 4711 serves",
    "handed over: 1,200 WebSockets, 1 event stream, 16 idle HTTP connections, 2 ended streams",
    "calls waited for 90 ms, and all streams were served again after 140 ms",
]
RIGHT = Upgraded(
    clients={"ws": 1200},
    upgrades=[Upgrade(exit_code=0, output=OUTPUT, handed_over={"ended stream": 2}, publish_ms=WAITS)],
    between_ms=WAITS,
    failed={},
    before_kb=100,
    after_kb=100,
)
BUSY = "import time\nwhile time.process_time() < 0.05: pass\nprint(flush=True)\ninput()"
"""A program that uses more time than the kernel's ticks can miss, and then waits."""


def test_counts_are_read_from_the_output() -> None:
    """Each kind has its number, by its name for one."""
    assert handed_over("\n".join(OUTPUT)) == {
        "WebSocket": 1200,
        "event stream": 1,
        "idle HTTP connection": 16,
        "ended stream": 2,
    }


@pytest.mark.parametrize("output", ["handed over: no connection", "channelstream: the server goes on", ""])
def test_an_upgrade_without_connections_has_no_counts(output: str) -> None:
    """An upgrade of a server without connections, or one that failed, has none."""
    assert handed_over(output) == {}


def test_a_failure_makes_the_run_wrong() -> None:
    """A call that failed, or an upgrade that did."""
    assert Measured(upgraded=RIGHT).is_right
    assert not Measured(upgraded=replace(RIGHT, failed={"/message answered 503: busy": 1})).is_right
    failed = replace(RIGHT.upgrades[0], exit_code=1)
    assert not Measured(upgraded=replace(RIGHT, upgrades=[*RIGHT.upgrades, failed])).is_right


def test_the_text_has_a_line_for_each_upgrade() -> None:
    """It has the exit code, the waits, and all that the command printed; failures have their reasons."""
    measured = Measured(upgraded=replace(RIGHT, failed={"/message answered 503: busy": 3}))
    step = StepReport("memory", Load(clients=1200), measured, None, {})
    text = report_text(Report(FORMAT, "1.0", "", "upgrade", machine(), "started for the run", [step]))
    assert f"1. exit code 0; publishes took 212 ms (p99), 240 ms at most: {'; '.join(OUTPUT)}" in text
    assert "3 x /message answered 503: busy" in text
    assert re.search(r"streams ended with 1012 +2$", text, re.MULTILINE)


def test_there_are_clients_of_each_transport() -> None:
    """Those of the load, and a tenth as many of each other one."""
    loads = loads_of(Load(clients=30, transport="sse"))
    assert {each.transport: each.clients for each in loads} == {"sse": 30, "ws": 3, "poll": 3}


class Refused:
    """A publisher whose calls fail."""

    is_closed = False

    async def publish(self, messages: Sequence[Addressed]) -> None:
        raise BenchFailed("refused")

    def close(self) -> None:
        self.is_closed = True


def test_a_call_that_fails_counts_and_the_next_has_a_new_connection() -> None:
    """The run goes on, with a failure; the time of both calls is recorded."""
    calls, refused = Calls(), Refused()
    asyncio.run(publish_twice(calls, refused))
    assert (calls.failed, calls.between.total, refused.is_closed) == ({"refused": 1}, 2, True)


async def publish_twice(calls: Calls, first: Refused) -> None:
    """Publish by a publisher, and then by the one that it is replaced by."""
    closed = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        wire = Wire(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        publisher = TimedPublisher(wire, first, calls)
        await publisher.publish([("a", b"1")])
        await publisher.publish([("a", b"2")])
        publisher.close()
        await closed.wait()


def test_the_time_of_a_process_that_has_ended_is_kept() -> None:
    """It is what it had used when it was last looked at, and that of the next process is added."""
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        succession = Succession(child.pid)
        used_s = succession.cpu_s()
        assert used_s > 0
        child.communicate(b"\n")
    assert succession.cpu_s() == used_s


def test_flat_out_is_refused() -> None:
    """The waits of calls are comparable at a steady rate only."""
    with pytest.raises(BenchFailed, match="steady rate"):
        uvloop.run(upgrade(Load(clients=1), (), Progress(None)))


def runs(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_an_upgrade_under_load_loses_nothing() -> None:
    """All streams are handed over, each delivery arrives once, and no process is left after the run."""
    load = Load(clients=2, messages=0, rate_per_s=20, publishers=2)
    flags = ("--upgrade-pause-s", "10")  # However slow the machine, no call in progress stops the upgrade.
    measured = uvloop.run(upgrade(load, flags, Progress(None), upgrades=1, between_s=0.1))
    upgraded, delivery = measured.upgraded, measured.delivery
    assert upgraded is not None
    assert delivery is not None
    assert measured.is_right, (upgraded, delivery)
    assert upgraded.clients == {"ws": 2, "sse": 1, "poll": 1}
    assert delivery.expected == delivery.rate.count > 0
    made = upgraded.upgrades[0]
    assert (made.handed_over["WebSocket"], made.handed_over["event stream"]) == (2, 1)
    assert made.publish_ms.samples > 0
    assert made.publish_ms.samples + upgraded.between_ms.samples == measured.requests
    served = re.search(r"process (\d+) serves", made.output[0])
    assert served is not None
    assert upgraded.after_kb > 0
    assert not runs(int(served[1]))
