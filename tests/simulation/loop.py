"""An event loop whose time is a number: it jumps to the next timer as soon as nothing else is ready."""

import asyncio
from asyncio import base_events
from itertools import count
from typing import Any

from tests.simulation.failure import Failure
from tests.simulation.steps import Steps


class VirtualLoop(base_events.BaseEventLoop):
    """A loop without sockets and without waiting, so that a run depends on nothing but its seed."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = self
        self._numbers = count()
        self.faults: list[BaseException] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_trouble)

    def time(self) -> float:
        return self._now_s

    def select(self, timeout_s: float | None) -> list[Any]:
        """Stand in for a selector: nothing comes from outside, so waiting is moving the clock."""
        if timeout_s is None:
            raise Failure("everybody waits and nothing can wake them")
        self._now_s += max(0.0, timeout_s)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread waits."""

    def _make_task(self, loop: Any, work: Any, **more: Any) -> "asyncio.Task[Any]":
        # Names that sort by age: `asyncio.all_tasks` is a set, whose order is that of addresses in memory.
        more["name"] = f"{next(self._numbers):012}"
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
        task.add_done_callback(self._note_fault)
        return task

    def _note_trouble(self, _loop: Any, context: dict[str, Any]) -> None:
        """Record errors that asyncio would only log: a failed callback, a forgotten task."""
        self.faults.append(context.get("exception") or Failure(context["message"]))

    def _note_fault(self, task: "asyncio.Task[Any]") -> None:
        """Record errors of tasks that are not awaited."""
        if not task.cancelled() and (fault := task.exception()):
            self.faults.append(fault)


class MeasuredLoop(VirtualLoop):
    """A virtual loop that knows how long each of its steps computes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = Steps()
        self.steps.start()

    def close(self) -> None:
        if not self.is_closed():
            self.steps.stop()
        super().close()

    def call_soon(self, callback: Any, *arguments: Any, context: Any = None) -> asyncio.Handle:
        return super().call_soon(self.steps.run, callback, *arguments, context=context)

    def call_at(
        self, when: float, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when, self.steps.run, callback, *arguments, context=context)


async def turns(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def kill_others() -> None:
    """End all other tasks, the oldest first, and those that they start as they end.

    Not before they have begun: Python would warn of coroutines that were never awaited.
    """
    me = asyncio.current_task()
    while tasks := sorted(
        (each for each in asyncio.all_tasks() if each is not me), key=asyncio.Task.get_name
    ):
        await turns(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
