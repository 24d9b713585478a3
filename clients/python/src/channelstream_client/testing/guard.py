"""Runs the server of a test run, and ends it with the run. It is started by its path and uses only the standard library.

Its standard input is a pipe that the test run holds. When the pipe closes, on purpose or because the run was killed, the
guard ends the server: first by SIGINT, then by SIGKILL.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import FrameType


class Guard:
    """A server in a separate process group.

    Args:
        patience_s: how long the server may take to end before it is killed.
        words: the command that starts it.
    """

    def __init__(self, patience_s: float, words: list[str]) -> None:
        self._patience_s = patience_s
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603

    def run(self) -> int:
        """Wait for the end of the server and return its exit code."""
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
