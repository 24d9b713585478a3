"""The programs of the bench as forks of the nursery: a new interpreter that imports a server takes 0.3 to 0.5 s of CPU."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import pytest
from tests.nursery import SERVER, Child, nursery

from channelstream.bench import programs

PROGRAMS = (
    *("channelstream.bench.worker", "channelstream.bench.engines.sink", "channelstream.bench.caller"),
    *("channelstream.bench.reference", "channelstream.bench.reference_api"),
)
"""What the bench starts besides `channelstream`. `python -m` of each calls its `main` (tests/bench/test_programs.py)."""


class Output(asyncio.StreamReaderProtocol):
    """Reads a program's stdout, and closes it at its end.

    Attributes:
        has_ended: whether it is closed.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.has_ended = asyncio.Event()

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # uvloop keeps the pipe open otherwise.

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.has_ended.set()


class ForkedProgram:
    """A program that the nursery has started, with what the bench uses of `asyncio.subprocess.Process`."""

    def __init__(
        self, child: Child, stdin: asyncio.StreamWriter | None, stdout: asyncio.StreamReader, output: Output
    ) -> None:
        self.pid = child.pid
        self.stdin = stdin
        self.stdout = stdout
        self._child = child
        self._output = output
        self._has_ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(child.end, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._child.end)
        self._child.poll()
        if self.stdin is not None:
            self.stdin.close()
        self._has_ended.set()

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):  # It has ended, and the loop has not seen it yet.
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        await self._has_ended.wait()
        if self.stdin is not None:  # Another process may take over from a server, and has the same stdout.
            await self._output.has_ended.wait()
        return self._child.wait()

    async def communicate(self) -> tuple[bytes, None]:
        output = await self.stdout.read()
        await self.wait()
        return output, None


async def fork_program(
    *command: str,
    stdin: int | None,
    stdout: int | None,
    stderr: int | None,
    env: Mapping[str, str] | None,
    limit: int,
    start_new_session: bool,
) -> ForkedProgram:
    """Start `python -m MODULE` as a fork; the arguments are those of `asyncio.create_subprocess_exec`."""
    _, _, module, *arguments = command
    assert module in (SERVER, *PROGRAMS)
    assert stdout == PIPE
    theirs, ours = os.pipe() if stdin == PIPE else (None, None)
    try:
        child = nursery().start(
            arguments,
            os.environ if env is None else env,
            errors=None if stderr == STDOUT else 2,
            module=module,
            stdin=theirs,
            has_session=start_new_session,
        )
    finally:
        if theirs is not None:
            os.close(theirs)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit)
    _, output = await loop.connect_read_pipe(lambda: Output(reader), child.stdout)
    return ForkedProgram(child, None if ours is None else await _writer(ours), reader, output)


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(descriptor, "wb")
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


@contextmanager
def forked_programs() -> Iterator[None]:
    """Let a bench in this process start its programs as forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "create_subprocess_exec", fork_program)
        yield
