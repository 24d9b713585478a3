"""The new process: the program of this one, as it is on the disk now."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from channelstream.upgrade.line import Line


class Process:
    """A new process with a line to this one; it outlives this one."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        """Take a running process.

        Args:
            descriptor: of the process (pidfd_open(2)).
        """
        self._process = process
        self._descriptor = descriptor

    @classmethod
    def start(cls, line: Line, environ: Mapping[str, str] = os.environ) -> Self:
        """Run the command of this process again, with the new process's end of a line.

        It has the environment, the folder and the output of this one; signals have their default actions.

        Raises:
            OSError: the system starts no process, or gives no descriptor of it. Without one its end could not be waited for,
                and after a failure this process goes on only when the new one is dead.
        """
        command = [sys.executable, *sys.orig_argv[1:]]
        descriptor = line.socket.fileno()
        process = subprocess.Popen(  # noqa: S603 - the command of this process
            command, env=line.bequeathed(environ), pass_fds=[descriptor]
        )
        try:
            return cls(process, os.pidfd_open(process.pid))
        except OSError:
            process.kill()
            process.wait()
            raise

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def end(self, patience_s: float) -> str:
        """Wait for its end, kill it after a time, and return how it ended."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._descriptor, ended.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await ended.wait()
            self._process.kill()
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def take_name(process_id: int) -> None:
    """Have this process called as another one is by `pgrep`, `top` and monitors, which read its name (proc(5), comm).

    It was started as a program of the interpreter, which the system calls `python`; the command that was typed is a script,
    and its process has the name of the script.
    """
    with suppress(OSError):
        # A line feed follows the name as it is read, and would be a part of it as it is written.
        name = Path(f"/proc/{process_id}/comm").read_bytes().removesuffix(b"\n")
        Path("/proc/self/comm").write_bytes(name)
