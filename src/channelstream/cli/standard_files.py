"""Stdin, stdout and stderr, as every command needs them."""

import io
import os
import sys
from typing import TYPE_CHECKING

from channelstream.errors import StdoutFailed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT = 1
_STDERR = 2


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


class _Stdout(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise StdoutFailed(error) from error


def prepare_stdout() -> None:
    """Escape characters that the encoding of stdout lacks, as Python does on stderr; a failed write is `StdoutFailed`.

    A name that a stranger chose would end a command with an error otherwise, where the locale is not UTF-8.
    """
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper):
        return
    if stdout is not sys.__stdout__:  # One of a test.
        stdout.reconfigure(errors="backslashreplace")
        return
    raw = _Stdout(_STDOUT, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        raw if stdout.write_through else io.BufferedWriter(raw),  # As Python does itself (-u).
        stdout.encoding,
        "backslashreplace",
        line_buffering=stdout.line_buffering,
        write_through=stdout.write_through,
    )


class _Stderr(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def prepare_stderr() -> None:
    """Drop what cannot be written to stderr: the work goes on, and its exit code says how it ended.

    An error would end a command with exit code 1 otherwise, and of one that has done its work.
    """
    stderr = sys.stderr
    if isinstance(stderr, io.TextIOWrapper) and stderr is sys.__stderr__:  # Else one of a test.
        buffer = io.BufferedWriter(_Stderr(_STDERR, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(buffer, stderr.encoding, "backslashreplace", line_buffering=True)


def discard_stdout() -> None:
    """Have stdout go nowhere: what is still buffered is written when the interpreter ends, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
