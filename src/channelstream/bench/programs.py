"""The Python programs of a run: each is a module of this package, run by an interpreter of its own."""

import sys
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import Mapping

LINE_BYTES = 1 << 16
"""The longest line that is read of a program which does not say otherwise; the default of asyncio."""


async def start_program(
    module: str,
    *arguments: str,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    environ: Mapping[str, str] | None = None,
    line_bytes: int = LINE_BYTES,
) -> Process:
    """Start a module as `python -m` does, in a session of its own: Ctrl-C reaches the run alone, which ends its programs.

    Args:
        stdin: and the other streams: as of `subprocess`.
        environ: None means that of this process.
        line_bytes: the longest line that is read of it.
    """
    return await create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environ,
        limit=line_bytes,
        start_new_session=True,
    )
