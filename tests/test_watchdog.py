"""Slow turns of the event loop: found, distinguished from a stopped process, and named without any value."""

import asyncio
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from tests.waiting import PATIENCE_S, eventually

from channelstream import load_monitor, watchdog
from channelstream.watchdog import (
    MAX_PAUSES,
    MAX_TURNS,
    Cause,
    Clocks,
    RunQueue,
    SlowTurn,
    Watchdog,
    cause_of,
    stack_text,
)

SLOW_S = 0.05


def spent(loop: float = 0.0, process: float = 0.0, queued: float = 0.0, collector: float = 0.0) -> Clocks:
    return Clocks(1.0, loop, max(loop, process), queued, collector)


@contextmanager
def watching(slow_s: float = SLOW_S) -> Iterator[Watchdog]:
    """Watch the running loop."""
    dog = Watchdog(slow_s)
    dog.start()
    try:
        yield dog
    finally:
        dog.stop()


def turns_until(done: Callable[[Watchdog], bool], turn: Callable[[Watchdog], None]) -> Watchdog:
    """Run slow turns in a loop until the watchdog has seen what is looked for: on a busy machine it may see more."""

    async def main() -> Watchdog:
        with watching() as dog:
            while not done(dog):
                asyncio.get_running_loop().call_soon(turn, dog)
                await asyncio.sleep(dog._tick_s)  # real time: the next beat must be due.
        return dog

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def found(dog: Watchdog, cause: Cause) -> list[SlowTurn]:
    return [turn for turn in dog.latest if turn.cause is cause]


def compute(_dog: Watchdog) -> None:
    a_password = "a value that no line may show"
    until_s = time.thread_time() + 3 * SLOW_S
    while time.thread_time() < until_s:
        assert a_password


def test_a_turn_that_computes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and logged with the function that ran, by its names alone."""
    dog = turns_until(lambda dog: any("compute" in turn.stack for turn in found(dog, Cause.BUSY)), compute)
    [turn, *_] = [turn for turn in found(dog, Cause.BUSY) if "compute" in turn.stack]
    assert turn.stack.startswith(f"{__name__}.compute:")
    assert min(turn.took_s, dog.longest_s, turn.spent.loop_cpu_s) > SLOW_S
    assert dog.slow_turns == len(dog.latest)
    assert min(dog.figures()["longest_turn_ms"], turn.row()["ms"]) > 1000 * SLOW_S
    assert any(f"busy ({1000 * turn.spent.loop_cpu_s:.0f} ms of CPU" in line for line in caplog.messages)
    assert "a value" not in caplog.text + repr(dog.rows())


def test_a_turn_that_waits_in_a_call_is_named() -> None:
    """A call that blocks uses no processor; the thread that looks at the loop still runs."""

    def wait(_dog: Watchdog) -> None:
        threading.Event().wait(3 * SLOW_S)

    dog = turns_until(lambda dog: bool(found(dog, Cause.BLOCKED)), wait)
    assert ".wait:" in found(dog, Cause.BLOCKED)[0].stack


def test_time_of_the_collector_is_reported() -> None:
    """A slow turn says how much of it the garbage collector took."""

    def collect(dog: Watchdog) -> None:
        compute(dog)
        gc.collect()

    dog = turns_until(lambda dog: any(turn.spent.collector_s for turn in found(dog, Cause.BUSY)), collect)
    assert any("ms of garbage collection" in str(turn) for turn in dog.latest)


def test_a_turn_that_may_never_end_is_logged_while_it_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that is stuck says where; the line does not wait for the end of the turn."""
    monkeypatch.setattr(watchdog, "STUCK_S", 2 * SLOW_S)
    seen = threading.Event()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.ERROR:
                seen.set()

    handler = Seen()
    watchdog.logger.addHandler(handler)
    try:
        # A look that was late itself proves nothing: then it is tried again.
        turns_until(lambda _dog: seen.is_set(), lambda _dog: seen.wait(10 * SLOW_S) and None)
    finally:
        watchdog.logger.removeHandler(handler)
    assert any("is stuck" in line and ".wait:" in line for line in caplog.messages)


def test_a_stopped_process_is_no_slow_turn(start_server: Any) -> None:
    """It is reported as a pause: the loop was not busy."""
    server = start_server("--slow-turn-ms", "200")

    def pauses() -> bool:
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(0.5)  # real time: it is what the server must notice.
        os.kill(server.process.pid, signal.SIGCONT)
        rows = server.request("GET", "/admin/data/slow_turns").json()["rows"]
        return any(row["cause"] == Cause.STOPPED and row["cpu_ms"] < row["ms"] / 2 for row in rows)

    eventually(pauses, "no pause is reported")
    document = server.request("GET", "/admin/admin.json").json()
    assert document["pauses"] >= 1
    assert document["latest_slow_turns"][0].keys() == {
        "at",
        "ms",
        "cause",
        "cpu_ms",
        "collector_ms",
        "is_pause",
        "stack",
        "node",
    }
    assert "the process did not run for " in server.log()


def test_a_real_server_reports_its_slow_turns(start_server: Any) -> None:
    """A body that takes long to read is found, in the figures and by name."""
    server = start_server("--slow-turn-ms", "1", "--max-body-bytes", "4194304")
    payload = [{"channel": "a", "user": "u", "message": {"n": n}} for n in range(5_000)]

    def found() -> bool:
        server.post("/message", payload)
        rows = server.request("GET", "/admin/data/slow_turns").json()["rows"]
        return any("channelstream.api." in row["stack"] for row in rows)

    eventually(found, "no slow turn is reported")


@pytest.mark.parametrize(
    ("late_s", "went_by", "seen_on_time", "in_code", "cause"),
    [
        (0.3, spent(loop=0.31), True, True, Cause.BUSY),
        (0.9, spent(loop=0.12, queued=0.78), False, False, Cause.BUSY),
        (0.3, spent(loop=0.05, queued=0.24), True, True, Cause.NO_PROCESSOR),
        (0.3, spent(loop=0.01, process=0.29), False, False, Cause.OTHER_THREAD),
        (0.3, spent(loop=0.01), True, True, Cause.BLOCKED),
        (0.3, spent(loop=0.01), True, False, Cause.NO_PROCESSOR),
        (0.3, spent(loop=0.01, queued=0.02), False, True, Cause.STOPPED),
    ],
)
def test_a_late_heartbeat_names_its_cause(
    late_s: float, went_by: Clocks, seen_on_time: bool, in_code: bool, cause: Cause
) -> None:
    """The clocks of the thread, the process and the queue for a processor show why a heartbeat was late."""
    assert cause_of(late_s, went_by, seen_on_time, in_code, 0.1) is cause
    line = str(SlowTurn(0.0, late_s, cause, went_by, "a.b:1"))
    assert line.startswith("slow turn" if cause.is_slow_turn else "the process did not run for 300 ms")
    assert ("780 ms without a processor" in line) == (went_by.queued_s > 0.5)


class SlowQueue:
    """A run queue whose figures take a second to read, as where the process is paused meanwhile."""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    def waited_s(self) -> float:
        self._clock[0] += 1.0
        return 0.0


def test_the_time_of_its_own_reads_delays_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the tick that reads nor the next one is late for it."""
    clock, delays = [0.0], list[float]()

    async def main() -> Watchdog:
        dog = Watchdog(SLOW_S)
        dog._queue, dog.on_tick = SlowQueue(clock), [delays.append]  # type: ignore[assignment]
        dog._arm(dog._clocks())
        for _ in range(3):
            assert dog._timer is not None
            dog._timer.cancel()
            clock[0] = max(clock[0], dog._next_tick.due_s)
            dog._tick()
        dog._timer.cancel()
        return dog

    # The clock of the watchdog only: asyncio has that of the module.
    figures = {name: getattr(time, name) for name in ("thread_time", "process_time", "time")}
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: clock[0], **figures))
    dog = asyncio.run(main())
    assert (dog.slow_turns, dog.pauses, delays) == (0, 0, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("cause", Cause)
def test_a_row_says_whether_it_is_a_pause(cause: Cause) -> None:
    """The functions of a pause did not cause it: the admin page does not show them."""
    is_pause = cause in {Cause.STOPPED, Cause.NO_PROCESSOR}
    assert SlowTurn(0.0, 0.3, cause, spent(), "a.b:1").row()["is_pause"] is is_pause


def test_kept_items_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Any number are counted; the last ones are kept, and few are logged. Pauses take no place of slow turns."""
    dog = Watchdog(SLOW_S)
    for number in range(MAX_TURNS + 5):
        dog._record(SlowTurn(float(number), 0.3, Cause.BUSY, spent(0.3), "a.b:1"), 1.0)
        dog._record(SlowTurn(float(number), 0.3, Cause.STOPPED, spent(), "a.b:1"), 1.0)
    assert (dog.slow_turns, dog.pauses) == (MAX_TURNS + 5, MAX_TURNS + 5)
    assert (len(dog.latest), len(dog.latest_pauses)) == (MAX_TURNS, MAX_PAUSES)
    assert len(caplog.messages) == watchdog.LINES + watchdog.PAUSE_LINES
    assert [row["at"][17:19] for row in dog.rows()[:3]] == ["24", "24", "23"]


def test_a_deep_stack_is_cut() -> None:
    """The functions where a turn began and where it was are named, however many are between."""

    def down(left: int) -> str:
        return down(left - 1) if left else stack_text(watchdog.sys._getframe(), None)

    names = down(50).split(" > ")
    assert len(names) == watchdog.OUTER_FRAMES + watchdog.INNER_FRAMES + 1
    assert names[watchdog.OUTER_FRAMES] == "..."
    assert "down:" in names[-1]
    assert stack_text(None, None) == watchdog.NO_FRAMES


def test_without_the_system_s_figures_it_still_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that does not say how long a thread waits for a processor, or has no such file, is enough."""
    assert RunQueue().waited_s() > 0
    (tmp_path / "schedstat").write_text("")
    real_open = os.open
    for file in ("schedstat", "nothing"):
        with monkeypatch.context() as replaced:
            replaced.setattr(
                watchdog.os, "open", lambda *_, file=file: real_open(tmp_path / file, os.O_RDONLY)
            )
            queue = RunQueue()
        assert queue.waited_s() == 0
        queue.close()


def test_it_leaves_nothing_behind() -> None:
    """Stopping ends its thread, its timer and its part in the collector; a second time does nothing."""
    threads, hooks = threading.active_count(), len(gc.callbacks)

    async def main() -> None:
        with watching() as dog:
            await asyncio.sleep(0)
            assert (threading.active_count(), len(gc.callbacks)) == (threads + 1, hooks + 1)
        dog.stop()

    uvloop.run(main())
    assert (threading.active_count(), len(gc.callbacks)) == (threads, hooks)


@pytest.mark.parametrize("slow_s", [0.0, 600.0])
def test_delays_are_measured_however_long_a_turn_may_last(
    monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    """The samples by which load is shed are taken each second: without a tick in it, one would say that nothing is late."""
    assert load_monitor.SAMPLE_S > 2 * watchdog.MAX_TICK_S
    monkeypatch.setattr(watchdog, "MAX_TICK_S", 0.001)

    async def main() -> None:
        with watching(slow_s) as dog:
            ticked = asyncio.Event()
            dog.on_tick.append(lambda _: ticked.set())
            await asyncio.wait_for(ticked.wait(), PATIENCE_S)

    uvloop.run(main())


def test_switched_off_it_only_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound no thread runs and nothing counts; the delay is measured for the charts."""
    monkeypatch.setattr(watchdog, "MAX_TICK_S", 0.001)
    threads = threading.active_count()

    async def main() -> None:
        with watching(0.0) as dog:
            await asyncio.sleep(0)
            assert threading.active_count() == threads
            while not (delay_s := dog.take_delay_s()) > 0.01:
                time.sleep(0.02)  # real time: it holds up the loop.
                await asyncio.sleep(0.001)  # real time: the next beat must be due.
            assert dog.take_delay_s() < delay_s
            assert (dog.slow_turns, dog.rows()) == (0, [])

    uvloop.run(main())
