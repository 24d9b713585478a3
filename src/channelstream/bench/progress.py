"""The progress of a run: one line that is updated on a terminal, or a line every few seconds otherwise."""

import time
from dataclasses import dataclass
from typing import TextIO

ON_TERMINAL_S = 0.1
ON_PIPE_S = 5.0


@dataclass(slots=True)
class Progress:
    """Shows the current activity at a limited rate.

    Attributes:
        out: the output; None means no output.
        title: beginning of the line.
    """

    out: TextIO | None
    title: str = ""
    _next: float = 0.0
    _is_dirty: bool = False

    def begin(self, title: str) -> None:
        self.title = title
        self._next = 0.0

    def show(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Show an activity, and how much of it is done if `total` is known."""
        now = time.monotonic()
        if self.out is None or now < self._next:
            return
        is_terminal = self.out.isatty()
        self._next = now + (ON_TERMINAL_S if is_terminal else ON_PIPE_S)
        amount = f" {done:,}" + (f" of {total:,}" if total else "") if done or total else ""
        text = f"{self.title}: {doing}{amount}"
        # Erase to the end of the line (ECMA-48, EL), as the text may be shorter than the last one.
        self.out.write(f"\r{text}\x1b[K" if is_terminal else f"{text}\n")
        self.out.flush()
        self._is_dirty = is_terminal

    def clear(self) -> None:
        """Erase the line before other output."""
        if self.out is not None and self._is_dirty:
            self.out.write("\r\x1b[K")
            self.out.flush()
            self._is_dirty = False
