"""Stdin, stdout and stderr, as every command needs them."""

import io
import os
import sys


def open_closed_ones() -> None:
    """Open /dev/null for those of them that the caller has closed, as `<&-` does.

    The next file that this process opens would have the number. If it is a socket of a client, libuv aborts the process when
    it closes the socket (`uv__close`); if it is a database, what a library writes to stderr is written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free is this one (open(2)).
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - until the process ends


def escape_what_stdout_lacks() -> None:
    """Write characters that the encoding of stdout has not as escapes, as Python does on stderr.

    A name that a stranger chose would end a command with an error otherwise, where the locale is not UTF-8.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
