"""Real Redis servers of the tests' own, on unix sockets in directories of their own."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

PATIENCE_S = 10.0


class RedisServer:
    """One `redis-server`, started and stopped at will.

    Attributes:
        address: what the option `engine` says.
    """

    def __init__(self, directory: Path, *flags: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("No redis-server is on the PATH; on Debian: apt-get install redis-server.")
        self.socket = directory / "redis.sock"
        self.address = f"unix://{self.socket}"
        self._command = [
            program,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(directory),
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while self.cli("PING") != "PONG":
            assert time.monotonic() < deadline, "redis-server does not start"
            assert self._process.poll() is None, "redis-server has ended"

    def cli(self, *parts: str) -> str:
        """Run one command and return what `redis-cli` prints."""
        done = subprocess.run(["redis-cli", "-s", str(self.socket), *parts], capture_output=True, text=True)
        return done.stdout.strip()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
