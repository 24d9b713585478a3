"""Real Redis servers of the tests' own, on unix sockets in directories of their own."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 10.0
SLOTS = 16_384
"""Of a Redis cluster."""


class RedisServer:
    """One `redis-server`, started and stopped at will.

    Attributes:
        address: what the option `engine` says.
        port: where it listens besides; 0 means nowhere.
    """

    def __init__(self, directory: Path, *flags: str, port: int = 0) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("No redis-server is on the PATH; on Debian: apt-get install redis-server.")
        directory.mkdir(exist_ok=True)
        self.port = port
        self.socket = directory / "redis.sock"
        self.address = f"unix://{self.socket}"
        self._command = [
            program,
            "--port",
            str(port),
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


@contextmanager
def redis_cluster(directory: Path, count: int, *more: str) -> Iterator[list[RedisServer]]:
    """Start so many masters on loopback, which share the slots."""
    ports = _free_ports(count)
    with ExitStack() as stack:
        masters = []
        for port in ports:
            flags = ("--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "", *more)
            masters.append(RedisServer(directory / str(port), *flags, port=port))
            masters[-1].start()
            stack.callback(masters[-1].kill)
        share = SLOTS // count + 1
        for number, master in enumerate(masters):
            first, last = number * share, min((number + 1) * share, SLOTS) - 1
            master.cli("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            master.cli("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            master.cli("CLUSTER", "MEET", "127.0.0.1", str(ports[0]))
        deadline = time.monotonic() + PATIENCE_S
        while not all("cluster_state:ok" in master.cli("CLUSTER", "INFO") for master in masters):
            assert time.monotonic() < deadline, "the cluster does not form"
            time.sleep(0.05)
        yield masters


def address(masters: list[RedisServer]) -> str:
    """What the option `engine` says of a cluster, with one shard for each master."""
    members = ",".join(f"127.0.0.1:{master.port}" for master in masters)
    return f"redis+cluster://{members}?shards={len(masters)}"


def _free_ports(count: int) -> list[int]:
    """Ports whose cluster buses, 10,000 higher, exist as well."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 55_000 and port not in found:
            found.append(port)
    return found
