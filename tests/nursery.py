"""Servers as forks of one process that has imported them: a start takes a tenth of the processor time of a new interpreter.

Run as a program, it is that process. It gets an `Order` for each server over a socket, as JSON, beside it the descriptors of
the server's stdout and stderr, the one to which the nursery writes how it ended, and that of its stdin, if it reads one. A
server is a process like any other afterwards: it has its own sockets, signals and log. `python -m channelstream` itself is
tested by `tests/cli`.

It starts other modules with a function `main` too: those that the bench starts (`tests/forked_programs.py`).
"""

import atexit
import ctypes
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from select import POLLIN, poll, select
from tempfile import TemporaryFile
from typing import IO, NoReturn

from tests.processes import children
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[1]
IMPORTED = (
    *("channelstream.cli.serve", "channelstream.server"),
    *("channelstream.engines.memory", "channelstream.engines.sqlite", "channelstream.engines.redis.engine"),
)
SERVER = "channelstream"
ORDER_BYTES = 1_000_000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def is_readable(descriptor: int, timeout_s: float | None) -> bool:
    """Wait for something to read, or the end; None is without a bound. `select` takes no descriptor above 1,023."""
    waiting = poll()
    waiting.register(descriptor, POLLIN)
    return bool(waiting.poll(None if timeout_s is None else 1000 * timeout_s))


@dataclass(frozen=True)
class Order:
    """A process to start.

    Attributes:
        module: that `python -m` would run.
        folder: where it runs.
        has_session: whether it has a session of its own, as with `start_new_session` of `subprocess`.
    """

    module: str
    arguments: Sequence[str]
    environ: Mapping[str, str]
    folder: str
    has_session: bool


class Child:
    """A server that the nursery has started, with what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, log: int, end: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[str] = os.fdopen(log)
        self.end = end

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self.end)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, for at most so many seconds.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(["channelstream"], timeout or 0.0)
        return code

    def _ended(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and is_readable(self.end, timeout_s):
            status = os.read(self.end, 32)
            # Without a status the nursery has ended, and all its servers are killed with it.
            self.returncode = os.waitstatus_to_exitcode(int(status)) if status else -signal.SIGKILL
            os.close(self.end)
        return self.returncode

    def line(self, timeout_s: float) -> str:
        """Read the next line of its log and nothing beyond; empty at the end of the log, or if nothing comes for so long."""
        line = b""
        while not line.endswith(b"\n") and is_readable(self.stdout.fileno(), timeout_s):
            byte = os.read(self.stdout.fileno(), 1)
            if not byte:
                break
            line += byte
        return line.decode()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def suspend(self) -> None:
        """Stop it with SIGSTOP; it no longer runs when this returns."""
        self.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it still runs")

    def kill(self) -> None:
        """End it at once; when this returns, it has ended, and others may have its port and its files."""
        self.send_signal(signal.SIGKILL)
        self.wait(PATIENCE_S)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float = PATIENCE_S) -> tuple[str, None]:
        """Read the rest of its log and wait for its end; the log is closed then.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self.stdout.closed:
            return "", None
        until_s = time.monotonic() + timeout
        rest = b""
        descriptor = self.stdout.fileno()
        while is_readable(descriptor, max(0.0, until_s - time.monotonic())):
            data = os.read(descriptor, 65_536)
            if not data:
                break
            rest += data
        self.wait(max(0.0, until_s - time.monotonic()))
        self.stdout.close()
        return rest.decode(), None


class Nursery:
    """The process that starts servers for this one; it ends with this one, and kills what is left of them then."""

    def __init__(self) -> None:
        self._ordering = threading.Lock()  # Fleets start their nodes in threads.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self.pid = self._process.pid
        atexit.register(self.close)

    def run(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        folder: Path | None = None,
        patience_s: float = PATIENCE_S,
    ) -> "subprocess.CompletedProcess[str]":
        """Run `channelstream` to its end, as `subprocess.run` does."""
        with TemporaryFile() as errors:
            child = self.start(arguments, environ, folder, errors.fileno())
            try:
                output, _ = child.communicate(patience_s)
            finally:
                child.kill()
                child.stdout.close()
            errors.seek(0)
            return subprocess.CompletedProcess(
                ["channelstream", *arguments], child.wait(PATIENCE_S), output, errors.read().decode()
            )

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        folder: Path | None = None,
        errors: int | None = None,
        *,
        module: str = SERVER,
        stdin: int | None = None,
        has_session: bool = False,
    ) -> Child:
        """Start `channelstream` with these arguments and this environment.

        Args:
            folder: where it runs; None means that of this process.
            errors: the descriptor for stderr; None means that of the log.
            module: another one with a function `main`.
            stdin: its descriptor; None means that it is empty.
            has_session: whether it has a session of its own.

        Raises:
            RuntimeError: the nursery has ended, or does not answer; no server can be started any more.
        """
        log, log_end = os.pipe()
        end, end_end = os.pipe()
        order = Order(module, list(arguments), dict(environ), str(folder or Path.cwd()), has_session)
        descriptors = [log_end, log_end if errors is None else errors, end_end]
        if stdin is not None:
            descriptors.append(stdin)
        try:
            with self._ordering:
                pid = self._ask(json.dumps(asdict(order)).encode(), *descriptors)
        except BaseException:
            os.close(log)
            os.close(end)
            raise
        finally:
            os.close(log_end)
            os.close(end_end)
        return Child(pid, log, end)

    def _ask(self, order: bytes, *descriptors: int) -> int:
        try:
            socket.send_fds(self._control, [order], descriptors)
            if answer := self._control.recv(32):
                return int(answer)
        except (ConnectionError, TimeoutError) as error:
            raise RuntimeError(f"the nursery starts no server: {error!r}") from error
        raise RuntimeError(f"the nursery has ended with {self._process.wait(PATIENCE_S)}")

    def close(self) -> None:
        """End it and its servers."""
        self._control.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_once = threading.Lock()


def nursery() -> Nursery:
    """Return that of this process."""
    with _once:
        return _nursery()


@cache
def _nursery() -> Nursery:
    return Nursery()


class _Program:
    """The nursery itself."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ends: dict[int, int] = {}
        self._ended, wake = socket.socketpair()
        wake.setblocking(False)
        # A signal that came between a look and a wait would not end the wait; a byte on a socket does.
        self._wake = wake.detach()
        signal.set_wakeup_fd(self._wake)

    def run(self) -> Order | None:
        """Fork for each order; return it in its child, and None when there are no more orders."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everything that the terminal started.
        # A server that takes over from another one stays a child of the nursery.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready = select([self._control, self._ended], [], [])[0]
            if self._ended in ready:
                self._ended.recv(4096)
                self._reap()
            if self._control not in ready:
                continue
            text, descriptors, _, _ = socket.recv_fds(self._control, ORDER_BYTES, 4)
            if not text:
                self._kill_all()
                return None
            order = Order(**json.loads(text))
            log, errors, end, *stdin = descriptors
            nursery_pid = os.getpid()
            pid = os.fork()
            if pid == 0:
                os.close(end)
                self._become(order, {**dict(enumerate(stdin)), 1: log, 2: errors}, nursery_pid)
                return order
            self._ends[pid] = end
            for descriptor in (log, errors, *stdin):
                os.close(descriptor)
            self._control.send(str(pid).encode())

    def _become(self, order: Order, streams: Mapping[int, int], parent: int) -> None:
        """Give a fork the state of a new process."""
        signal.set_wakeup_fd(-1)
        for descriptor in (self._control.detach(), self._ended.detach(), self._wake, *self._ends.values()):
            os.close(descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with(parent)
        if order.has_session:
            os.setsid()
        for number, descriptor in streams.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
        # The nursery's knows that /dev/null can be sought in.
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - until the process ends
        sys.__stdout__ = sys.stdout  # type: ignore[misc] # As at the start of an interpreter.
        os.environ.clear()
        os.environ.update(order.environ)
        os.chdir(order.folder)
        time.tzset()
        # As `python -m` has it.
        sys.path[0:1] = [order.folder, *filter(None, order.environ.get("PYTHONPATH", "").split(os.pathsep))]
        random.seed()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                end = self._ends.pop(pid, None)
                if end is None:
                    continue
                with suppress(BrokenPipeError):
                    os.write(end, str(status).encode())
                os.close(end)

    def _kill_all(self) -> None:
        """Kill the servers, and those that have taken over from one."""
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Be killed when the nursery ends, however it does (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # It had ended before.


def _leave(code: int | None) -> NoReturn:
    """End as an interpreter does, but free no memory: that would copy all that is shared with the nursery, in 25 ms."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(code)  # The interpreter reports it.
    os._exit(code or 0)


def main() -> None:
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    order = _Program(socket.socket(fileno=int(sys.argv[1]))).run()
    if order is not None:
        sys.argv[1:] = order.arguments
        sys.orig_argv = [sys.executable, "-m", order.module, *order.arguments]
        if order.module == SERVER:
            _leave(import_module("channelstream.cli").main(order.arguments))
        _leave(import_module(order.module).main())


if __name__ == "__main__":
    main()
