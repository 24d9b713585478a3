"""Finds event loop turns that last too long, and names the code that ran in them.

A timer of the loop ticks at a steady pace. A tick that is late proves a turn that lasted at least as long as the
delay. A thread sleeps until a tick is late by half of a slow turn, then samples the stack of the loop once. So the
watched code runs unchanged, and a loop without slow turns pays only for the ticks. One takes 10 us in a busy loop, and 70
after a sleep, when the processor's caches hold other work; so there are few. To time every callback, as asyncio's
debug mode does, would cost every callback.

A late tick does not prove that the code was slow: the machine may have given the processor to another process, or the
process was stopped. So each tick records all clocks (`Clocks`), and `cause_of` decides by their differences. Only
turns that this process could have avoided count as slow.

Race: the thread reads the tick and the stack of a loop that runs meanwhile, and the turn may end between the two. So
a sample keeps the tick that it was taken for, and is ignored for any other; a turn without a sample is reported
without its code (`NOT_SEEN`). A lock would make every tick wait for the thread.
"""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import Any

from channelstream.core.line_limit import LineLimit
from channelstream.core.timestamps import stamp

TICKS = 2
"""Least ticks in the time of a slow turn: one that is half as long again is always found, and a shorter one by chance."""
MIN_TICK_S = 0.004
MAX_TICK_S = 0.25
"""Longest time between two ticks, however long a turn may last: by their delays load is shed, once a second."""
STUCK_S = 5.0
"""A turn of this length is logged while it still runs, as it may never end."""
LINES, PAUSE_LINES = 6, 1
"""Most log lines about slow turns, and about pauses, in a minute; the next line has the number of omitted ones."""
MAX_TURNS, MAX_PAUSES = 20, 5
"""Slow turns and pauses kept for the admin, each with a bound, so that a busy machine does not displace slow turns."""
OUTER_FRAMES, INNER_FRAMES = 2, 8
"""Most frames in a report: the outermost and the innermost ones of the turn."""
NO_FRAMES = "code of the loop itself"
NOT_SEEN = "code that is not known"

logger = logging.getLogger(__name__)


class Cause(StrEnum):
    """Why a tick was late."""

    BUSY = "busy"
    OTHER_THREAD = "held up by another thread"
    BLOCKED = "blocked in a call"
    NO_PROCESSOR = "no processor was free"
    STOPPED = "it was stopped, or the machine gave it no time"

    @property
    def is_slow_turn(self) -> bool:
        """Whether a loop turn was slow; otherwise the process did not run."""
        return self not in (Cause.NO_PROCESSOR, Cause.STOPPED)


@dataclass(frozen=True, slots=True)
class Clocks:
    """All clocks at one moment, or their differences between two, in seconds.

    Attributes:
        steady_s: the monotonic clock.
        loop_cpu_s: CPU time of the loop's thread.
        process_cpu_s: CPU time of all threads of the process.
        queued_s: time for which the loop's thread was ready to run, but had no processor.
        collector_s: time in the garbage collector.
    """

    steady_s: float
    loop_cpu_s: float
    process_cpu_s: float
    queued_s: float
    collector_s: float

    def since(self, before: "Clocks") -> "Clocks":
        return Clocks(
            self.steady_s - before.steady_s,
            self.loop_cpu_s - before.loop_cpu_s,
            self.process_cpu_s - before.process_cpu_s,
            self.queued_s - before.queued_s,
            self.collector_s - before.collector_s,
        )


@dataclass(frozen=True, slots=True)
class SlowTurn:
    """A turn that was too slow.

    Attributes:
        at_s: its end, in epoch seconds.
        took_s: its length, at most the time between two ticks too short.
        spent: the differences of the clocks since the tick before.
        stack: the functions that ran, from the outermost one; only names of code, no values of variables.
    """

    at_s: float
    took_s: float
    cause: Cause
    spent: Clocks
    stack: str

    def __str__(self) -> str:
        took_ms, spent = 1000 * self.took_s, self.spent
        if not self.cause.is_slow_turn:
            return f"the process did not run for {took_ms:.0f} ms: {self.cause.value}"
        used_s = spent.process_cpu_s if self.cause is Cause.OTHER_THREAD else spent.loop_cpu_s
        parts = [f"{1000 * used_s:.0f} ms of CPU"]
        if spent.collector_s:
            parts.append(f"{1000 * spent.collector_s:.0f} ms of garbage collection")
        if spent.queued_s > self.took_s / 10:
            parts.append(f"{1000 * spent.queued_s:.0f} ms without a processor")
        details = ", ".join(parts)
        return (
            f"slow turn of the event loop: {took_ms:.0f} ms, {self.cause.value} ({details}) in {self.stack}"
        )

    def row(self) -> dict[str, Any]:
        """Describe it for the admin."""
        return {
            "at": stamp(self.at_s),
            "ms": round(1000 * self.took_s, 1),
            "cause": self.cause.value,
            "is_pause": not self.cause.is_slow_turn,
            "cpu_ms": round(1000 * self.spent.loop_cpu_s, 1),
            "collector_ms": round(1000 * self.spent.collector_s, 1),
            "stack": self.stack,
        }


def cause_of(late_s: float, spent: Clocks, seen_on_time: bool, in_code: bool, slow_s: float) -> Cause:
    """Return the cause of a late tick.

    Args:
        late_s: its delay.
        spent: the differences of the clocks since the tick before.
        seen_on_time: whether the watching thread could run in the meantime.
        in_code: whether that saw a function run; otherwise the loop waited for events, and was woken late.
        slow_s: longest allowed turn; time without a processor is not part of it.
    """
    own_s = late_s - spent.queued_s
    if own_s <= min(slow_s, spent.queued_s):
        return Cause.NO_PROCESSOR
    if spent.loop_cpu_s >= own_s / 2:
        return Cause.BUSY
    if spent.process_cpu_s >= own_s / 2:
        return Cause.OTHER_THREAD
    if not seen_on_time:
        return Cause.STOPPED
    return Cause.BLOCKED if in_code else Cause.NO_PROCESSOR


def stack_text(frame: FrameType | None, base: FrameType | None) -> str:
    """Return the names of the functions from the frame that runs the loop to the innermost one."""
    names: list[str] = []
    while frame is not None and frame is not base:
        module = frame.f_globals.get("__name__", "?")
        names.append(f"{module}.{frame.f_code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    names.reverse()
    if len(names) > OUTER_FRAMES + INNER_FRAMES:
        names[OUTER_FRAMES:-INNER_FRAMES] = ["..."]
    return " > ".join(names) or NO_FRAMES


class RunQueue:
    """Measures how long the thread that creates it was ready to run without a processor (proc(5), schedstat)."""

    def __init__(self) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def waited_s(self) -> float:
        """Return the seconds in the run queue since the thread started; 0 if the system does not report them."""
        fields = os.pread(self._file, 80, 0).split() if self._file is not None else ()
        return int(fields[1]) / 1e9 if len(fields) == 3 else 0.0

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class _Tick:
    """The time at which the next tick is due, and the clocks at the last one."""

    due_s: float
    clocks: Clocks


@dataclass(slots=True)
class _Sample:
    """A sample that the thread took while a tick was late."""

    tick: _Tick
    on_time: bool
    stack: str
    is_stuck: bool = False


class Watchdog:
    """Watches the loop in which it is started.

    Attributes:
        slow_turns: number of slow turns since the start.
        pauses: number of times that the process did not run for as long.
        longest_s: length of the longest turn since the start, without its time in the run queue; at most the time
            between two ticks too short. A blocked turn counts only if it was sampled.
        on_tick: all are called with the delay of each tick, in seconds.
        latest: the last slow turns, oldest first.
        latest_pauses: the last pauses, oldest first.
    """

    def __init__(self, slow_s: float) -> None:
        """Create a watchdog.

        Args:
            slow_s: longest allowed turn, in seconds; 0 means that none counts as slow.
        """
        self.slow_turns = 0
        self.pauses = 0
        self.longest_s = 0.0
        self.on_tick: list[Callable[[float], None]] = []
        self.latest: deque[SlowTurn] = deque(maxlen=MAX_TURNS)
        self.latest_pauses: deque[SlowTurn] = deque(maxlen=MAX_PAUSES)
        self._slow_s = slow_s or float("inf")
        self._tick_s = min(max(MIN_TICK_S, self._slow_s / TICKS), MAX_TICK_S)
        self._limit, self._pause_limit = LineLimit(LINES), LineLimit(PAUSE_LINES)
        self._delay_s = 0.0
        self._collector_s = self._collecting_since_s = 0.0
        self._sample: _Sample | None = None
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.Handle | None = None
        self._base: FrameType | None = None
        self._queue: RunQueue
        self._next_tick: _Tick

    def start(self) -> None:
        """Start to watch the running loop; called in its thread."""
        self._queue = RunQueue()
        gc.callbacks.append(self._collect)
        self._timer = asyncio.get_running_loop().call_soon(self._begin)

    def stop(self) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = self._base = None
        gc.callbacks.remove(self._collect)
        if self._thread is not None:
            self._running.release()
            self._thread.join()
        self._queue.close()

    def take_delay_s(self) -> float:
        """Return the longest delay of a tick since the last call."""
        delay_s, self._delay_s = self._delay_s, 0.0
        return delay_s

    def figures(self) -> dict[str, Any]:
        """Return the figures for the admin pages."""
        return {
            "slow_turns": self.slow_turns,
            "longest_turn_ms": round(1000 * self.longest_s, 1),
            "pauses": self.pauses,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Describe the last slow turns and pauses for the admin, newest first."""
        turns = sorted([*self.latest, *self.latest_pauses], key=lambda turn: turn.at_s, reverse=True)
        return [turn.row() for turn in turns]

    # -- in the loop

    def _begin(self) -> None:
        self._base = sys._getframe().f_back
        self._arm(self._clocks())
        if self._slow_s < float("inf"):
            self._running.acquire()
            watch = (threading.get_ident(),)
            self._thread = threading.Thread(target=self._watch, args=watch, name="watchdog", daemon=True)
            self._thread.start()

    def _arm(self, clocks: Clocks) -> None:
        self._next_tick = _Tick(clocks.steady_s + self._tick_s, clocks)
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        # Before the clocks are read: the process may be paused in a read.
        late_s = time.monotonic() - self._next_tick.due_s
        clocks = self._clocks()
        self._delay_s = max(self._delay_s, late_s)
        for observe in self.on_tick:
            observe(late_s)
        if late_s > self._slow_s or late_s > self.longest_s:
            self._judge(late_s, clocks)
        self._arm(clocks)

    def _judge(self, late_s: float, clocks: Clocks) -> None:
        sample = self._sample
        if sample is None or sample.tick is not self._next_tick:
            sample = _Sample(self._next_tick, on_time=False, stack=NOT_SEEN)
        spent = clocks.since(self._next_tick.clocks)
        cause = cause_of(late_s, spent, sample.on_time, sample.stack != NO_FRAMES, self._slow_s)
        if cause.is_slow_turn:
            self.longest_s = max(self.longest_s, late_s - spent.queued_s)
        if late_s > self._slow_s:
            self._record(SlowTurn(time.time(), late_s, cause, spent, sample.stack), clocks.steady_s)

    def _record(self, turn: SlowTurn, now_s: float) -> None:
        if turn.cause.is_slow_turn:
            self.slow_turns += 1
            latest, limit = self.latest, self._limit
        else:
            self.pauses += 1
            latest, limit = self.latest_pauses, self._pause_limit
        latest.append(turn)
        if limit.admits(now_s):
            logger.warning("%s%s", turn, limit.take_omitted())

    def _clocks(self) -> Clocks:
        """Read all clocks, the steady one last: the next tick is not late for the time of the reads."""
        queued_s = self._queue.waited_s()
        loop_cpu_s, process_cpu_s = time.thread_time(), time.process_time()
        return Clocks(time.monotonic(), loop_cpu_s, process_cpu_s, queued_s, self._collector_s)

    def _collect(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since_s = time.monotonic()
        else:
            self._collector_s += time.monotonic() - self._collecting_since_s

    # -- in the thread

    def _watch(self, loop_thread: int) -> None:
        queue, pause_s = RunQueue(), self._slow_s
        queued_s = queue.waited_s()
        # The lock is held until the end. A `threading.Event` costs more, since it makes a lock for each wait.
        while not self._running.acquire(timeout=pause_s):
            before_s, queued_s = queued_s, queue.waited_s()
            pause_s = self._check(loop_thread, queued_s - before_s)
        queue.close()

    def _check(self, loop_thread: int, queued_s: float) -> float:
        """Sample the loop if its tick is late; return how long to sleep.

        Args:
            loop_thread: identifier of the loop's thread.
            queued_s: time that this thread was in the run queue when it woke up.
        """
        tick = self._next_tick
        late_s = time.monotonic() - tick.due_s
        if late_s < self._slow_s / 2:
            return self._slow_s / 2 - late_s
        sample = self._sample
        if sample is None or sample.tick is not tick:
            stack = stack_text(sys._current_frames().get(loop_thread), self._base)
            self._sample = _Sample(tick, late_s - queued_s < self._slow_s, stack)
        elif late_s >= STUCK_S and sample.on_time and not sample.is_stuck:
            sample.is_stuck = True
            logger.error("the event loop is stuck: a turn has lasted %.0f s, in %s", late_s, sample.stack)
        return self._slow_s
