"""How long each step of a simulated loop computes, and the code that ran in one that computes for too long.

A step is one callback: a task between two awaits. Its length is the CPU time of the thread, so a busy machine does not
change it. The garbage collector's time is left out, as it depends on what else lives in the process; so is a step that
imports a module, which happens once in a process.
"""

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from channelstream.watchdog import stack_text

BOUND_S = 0.05
"""CPU time a step may take. No step of 300 seeds took 3 ms in each of five runs, so a machine may be 16 times slower."""


class Steps:
    """Measures the steps of one loop.

    Attributes:
        part: of the script, which is being played.
        longest_s: the longest so far.
        slow: by their numbers, what ran in those that took too long.
    """

    def __init__(self) -> None:
        self.part = ""
        self.longest_s = 0.0
        self.slow: dict[int, str] = {}
        self._count = 0
        self._collecting_s = self._since_s = 0.0
        self._stack = ""
        self._base: FrameType | None = None
        self._handler: Any = None

    def start(self) -> None:
        gc.callbacks.append(self._collect)
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGPROF, self._look)

    def stop(self) -> None:
        self._base = None
        gc.callbacks.remove(self._collect)
        if self._handler is not None:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.signal(signal.SIGPROF, self._handler)

    def run(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Run one step."""
        self._count += 1
        self._base = sys._getframe()
        self._stack, self._collecting_s, modules = "", 0.0, len(sys.modules)
        if self._handler is not None:
            # Once the step has used so much, the kernel interrupts it, and what it does then is noted.
            signal.setitimer(signal.ITIMER_PROF, BOUND_S)
        began_s = time.thread_time()
        try:
            callback(*arguments)
        finally:
            took_s = time.thread_time() - began_s - self._collecting_s
            if len(sys.modules) == modules:
                self._judge(took_s, callback)

    def _judge(self, took_s: float, callback: Callable[..., Any]) -> None:
        self.longest_s = max(self.longest_s, took_s)
        if took_s > BOUND_S:
            what = self._stack or repr(callback)
            self.slow[self._count] = f"{1000 * took_s:.0f} ms of CPU in {what}, {self.part}"

    def _look(self, _number: int, frame: FrameType | None) -> None:
        self._stack = stack_text(frame, self._base)

    def _collect(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._since_s = time.thread_time()
        else:
            self._collecting_s += time.thread_time() - self._since_s
