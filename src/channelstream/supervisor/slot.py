"""A slot of the parent of workers: which process has it, and when a dead one is replaced."""

import socket
from dataclasses import dataclass

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
"""Pause before a dead worker is replaced, in seconds; doubled for each worker that dies within `YOUNG_S`."""
YOUNG_S = 10.0
MAX_SILENT_LOOKS = 6


@dataclass(slots=True)
class WorkerSlot:
    """The slot of one worker; another process takes it after each death.

    Attributes:
        number: from 0.
        pid: 0 while it is empty.
        due_s: when a worker is started, by the steady clock; None while there is one, and before the first one is
            wanted.
        pause_s: how long the slot stays empty after the next death, in seconds.
        silent_looks: how often the parent has looked since the process last showed life; None before it does so.
    """

    number: int = 0
    pid: int = 0
    line: socket.socket | None = None
    is_serving: bool = False
    started_s: float = 0.0
    due_s: float | None = None
    pause_s: float = FIRST_PAUSE_S
    silent_looks: int | None = None

    def look(self) -> bool:
        """Look at the process once more, and return whether it hangs: it has shown no life for `MAX_SILENT_LOOKS`.

        Looks are counted, and not seconds: a parent that was stopped with its workers, by SIGSTOP or with the machine, makes
        one afterwards.
        """
        if self.silent_looks is None:
            return False
        self.silent_looks += 1
        return self.silent_looks > MAX_SILENT_LOOKS

    def vacate(self, now_s: float) -> None:
        """Empty the slot after a death; the next worker starts sooner if this one has lived long."""
        self.pause_s = (
            min(2 * self.pause_s, LONGEST_PAUSE_S) if now_s - self.started_s < YOUNG_S else FIRST_PAUSE_S
        )
        self.pid, self.line, self.is_serving, self.silent_looks = 0, None, False, None
        self.due_s = now_s + self.pause_s
