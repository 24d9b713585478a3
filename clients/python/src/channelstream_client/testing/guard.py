"""Runs the server that tests started, and ends it when they do: run by its path, with the standard library alone.

Its standard input is a pipe that the test run holds. When that is closed, by intent or because the run was killed,
the server is ended: asked first, killed if it does not obey.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import FrameType


class Guard:
    """A server in a process group of its own.

    Args:
        patience_s: how long it may take to end.
        words: its command.
    """

    def __init__(self, patience_s: float, words: list[str]) -> None:
        self._patience_s = patience_s
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603

    def run(self) -> int:
        """Wait for its end; its exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        threading.Thread(target=self._watch, daemon=True).start()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._end()

    def _watch(self) -> None:
        while os.read(0, 1024):
            pass
        self._end()

    def _end(self) -> None:
        self._send(signal.SIGINT)
        timer = threading.Timer(self._patience_s, self._send, (signal.SIGKILL,))
        timer.daemon = True
        timer.start()

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


if __name__ == "__main__":
    sys.exit(Guard(float(sys.argv[1]), sys.argv[2:]).run())
