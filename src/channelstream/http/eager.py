"""Runs a coroutine up to its first wait at once, and only the rest of it as a task.

Most calls never wait: their body has arrived with the head, and the memory engine answers at once. To create a task,
and to run it in the next turn of the loop, would be a large part of their cost. CPython 3.12 has this as
`asyncio.eager_task_factory`.

The first step has no task yet, and code such as `asyncio.timeout` asks for the current one. It gets a `_FutureTask`,
which passes calls on to the task of the rest; a timeout can only end in a later turn, when there is one. Entering a
task is a documented way to extend asyncio ("Extending", "Task lifetime support").
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

Work = Coroutine[Any, Any, None]


def run_eagerly(work: Work, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None] | None:
    """Run a coroutine up to its first wait; return the task of the rest, or None if it has ended.

    Its changes of context variables stay its own, as those of a task do. Within another task, where the current task
    must not change, all of it becomes a task.
    """
    task = _FutureTask()
    try:
        _enter_task(loop, task)  # type: ignore[arg-type]
    except RuntimeError:  # There is one.
        return loop.create_task(work)
    context = copy_context()
    try:
        waits_for = context.run(work.send, None)
    except StopIteration:
        return None
    finally:
        _leave_task(loop, task)  # type: ignore[arg-type]
    task.rest = loop.create_task(_Rest(work, waits_for), context=context)
    return task.rest


class _FutureTask:
    """Stands for the task of a coroutine in its first step, and passes calls on to it when there is one."""

    rest: asyncio.Task[None] | None = None

    def cancelling(self) -> int:
        return self.rest.cancelling() if self.rest is not None else 0

    def cancel(self, msg: object = None) -> bool:
        return self.rest.cancel(msg) if self.rest is not None else False

    def uncancel(self) -> int:
        return self.rest.uncancel() if self.rest is not None else 0

    def done(self) -> bool:
        return self.rest is not None and self.rest.done()


class _Rest(Coroutine[Any, None, None]):
    """What is left of a coroutine that waits: for a task, a coroutine at its beginning."""

    __slots__ = ("_has_begun", "_waits_for", "_work")

    def __init__(self, work: Work, waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for
        self._has_begun = False

    def send(self, value: None) -> Any:
        if self._has_begun:
            return self._work.send(value)
        return self._begin()

    def throw(self, *error: Any) -> Any:
        if not self._has_begun and (waits_for := self._begin()) is not None:
            # The task is cancelled before it has waited for this, and cancels only what it waits for.
            waits_for.cancel()
        try:
            return self._work.throw(*error)
        finally:
            del error  # In CPython 3.12 frames of what it raises refer to this one (python/cpython#100964).

    def _begin(self) -> Any:
        waits_for, self._waits_for, self._has_begun = self._waits_for, None, True
        return waits_for

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, None, None]:
        return self._work.__await__()
