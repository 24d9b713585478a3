"""What SIGTERM and SIGHUP do to a command: by default they end it at once, but not the first process of a container."""

import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

SHELL_CODE = 128
"""Shells report the end by a signal as this and its number."""
_FIRST = 1
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], None]


def let_sigterm_end_the_first() -> None:
    """Have SIGTERM end this process if it is the first of a container, where it does nothing by default (kill(2))."""
    if os.getpid() == _FIRST:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(SHELL_CODE + signal.SIGTERM))


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Have them do what Ctrl-C does while this context is open.

    Raises:
        SystemExit: one has ended the work.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        on_ctrl_c = signal.getsignal(signal.SIGINT)  # In a loop it cancels what runs (`asyncio.Runner`).
        if not callable(on_ctrl_c):  # A shell lets what it starts with `&` ignore Ctrl-C.
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)

    with _caught(_ENDING, interrupt):
        try:
            yield
        except KeyboardInterrupt:
            if came:
                raise SystemExit(SHELL_CODE + came[-1]) from None
            raise


@contextmanager
def ending(end: Callable[[], object]) -> Iterator[Sequence[int]]:
    """Have them and Ctrl-C call a function in a thread while this context is open, as does the reader of stdout that leaves.

    Yields the signals that came; SIGPIPE for that reader.

    An error in the main thread could print a line twice, whose write has just returned. It is raised where the work would
    not end: by a second signal, and while stdout is a pipe that is full.
    """
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        came.append(number)
        if came[1:] or not select.select([], [sys.stdout], [], 0)[1]:
            raise KeyboardInterrupt
        _in_a_thread(end)

    def end_unread() -> None:
        unread.poll()
        came.append(signal.SIGPIPE)
        end()

    unread = select.poll()
    with suppress(io.UnsupportedOperation):  # In a test.
        unread.register(sys.stdout, 0)  # What poll(2) reports unasked: POLLERR of a pipe that nobody reads.
        _in_a_thread(end_unread)
    with _caught((signal.SIGINT, *_ENDING), interrupt):
        yield came


def _in_a_thread(run: Callable[[], object]) -> None:
    threading.Thread(target=run, daemon=True).start()


@contextmanager
def _caught(numbers: Sequence[signal.Signals], handler: _Handler) -> Iterator[None]:
    """Catch signals, but those that are ignored, as below nohup(1)."""
    caught = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
