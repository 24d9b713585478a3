"""Real Redis servers of the tests' own, on unix sockets in directories of their own.

CHANNELSTREAM_TEST_REDIS names the program, a `redis-server` or `valkey-server`; otherwise it is that of the PATH.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError
from tests.waiting import eventually

ANSWER_S = 10.0
SLOTS = 16_384
"""Of a Redis cluster."""
PROGRAM_VARIABLE = "CHANNELSTREAM_TEST_REDIS"
PROGRAMS = ("redis-server", "valkey-server")


def redis_program() -> str:
    """Path of the server to test with; without one the test is skipped, and with a wrong one it fails."""
    if named := os.environ.get(PROGRAM_VARIABLE):
        assert os.access(named, os.X_OK), f"{PROGRAM_VARIABLE} names no program: {named}"
        return named
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("No redis-server is on the PATH; on Debian: apt-get install redis-server.")
    return found


class RedisServer:
    """One server, started and stopped at will.

    Attributes:
        address: what the option `engine` says.
        port: where it listens besides; 0 means nowhere.
    """

    def __init__(
        self, directory: Path, *flags: str, port: int = 0, file: Path | None = None, password: str = ""
    ) -> None:
        """Create a server that does not run.

        Args:
            directory: where its data and its socket are.
            flags: of its command line.
            file: of settings that the command line does not know; None means none.
            password: what it asks of everybody.
        """
        program = redis_program()
        directory.mkdir(exist_ok=True)
        self.port = port
        self.socket = directory / "redis.sock"
        self.address = f"unix://{self.socket}"
        self._password = password
        self._command = [program, *([str(file)] if file else [])]
        self._command += ["--port", str(port), "--unixsocket", str(self.socket), "--dir", str(directory)]
        if password:
            self._command += ["--requirepass", password, "--masterauth", password]
        self._command += flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        self._process = process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

        def answers() -> bool:
            assert process.poll() is None, "the Redis server has ended"
            return self.cli("PING") == "PONG"

        eventually(answers, "the Redis server does not start")

    def cli(self, *parts: str) -> str:
        """Run one command and return its answer as `redis-cli` prints it: empty without an answer."""
        # RESP2, so that the answer is the same of every version, and no greeting that older ones do not know.
        connection: Any = UnixDomainSocketConnection(
            path=str(self.socket),
            password=self._password or None,
            socket_timeout=ANSWER_S,
            protocol=2,
            driver_info=None,
        )
        try:
            connection.connect()
            connection.send_command(*parts)
            return _printed(connection.read_response())
        except ResponseError as error:
            return str(error)
        except (RedisError, OSError):
            return ""
        finally:
            connection.disconnect()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()


def _printed(answer: Any) -> str:
    if isinstance(answer, list):
        return "\n".join(map(_printed, answer))
    if answer is None:
        return ""
    return answer.decode().strip() if isinstance(answer, bytes) else str(answer)


@contextmanager
def running_redis(directory: Path) -> Iterator[RedisServer]:
    """Start one that keeps nothing, and kill it."""
    server = RedisServer(directory, "--save", "")
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def redis_cluster(directory: Path, count: int, *more: str) -> Iterator[list[RedisServer]]:
    """Start so many masters on loopback, which share the slots."""
    with ExitStack() as stack:
        ports = stack.enter_context(held_ports(count))
        masters = []
        for port in ports:
            flags = ("--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "", *more)
            masters.append(RedisServer(directory / str(port), *flags, port=port))
            masters[-1].start()
            stack.callback(masters[-1].kill)
        share = SLOTS // count + 1
        for number, master in enumerate(masters):
            slots = range(number * share, min((number + 1) * share, SLOTS))
            master.cli("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            # ADDSLOTSRANGE came with 7.0.
            master.cli("CLUSTER", "ADDSLOTS", *map(str, slots))
            master.cli("CLUSTER", "MEET", "127.0.0.1", str(ports[0]))
        eventually(
            lambda: all("cluster_state:ok" in master.cli("CLUSTER", "INFO") for master in masters),
            "the cluster does not form",
        )
        yield masters


@contextmanager
def cluster_replica(directory: Path, master: RedisServer, *flags: str) -> Iterator[RedisServer]:
    """Add one more member to the cluster of a master, which copies it and takes its place when it is gone."""
    with ExitStack() as stack:
        [port] = stack.enter_context(held_ports(1))
        own = ("--bind", "127.0.0.1", "--cluster-enabled", "yes", *flags)
        replica = RedisServer(directory / str(port), *own, port=port)
        replica.start()
        stack.callback(replica.kill)
        replica.cli("CLUSTER", "MEET", "127.0.0.1", str(master.port))
        name = master.cli("CLUSTER", "MYID")
        # It is refused until both know each other.
        eventually(lambda: replica.cli("CLUSTER", "REPLICATE", name) == "OK", "the replica does not join")
        eventually(
            lambda: "master_link_status:up" in replica.cli("INFO", "replication"),
            "the replica does not copy",
        )
        yield replica


def cluster_address(masters: list[RedisServer]) -> str:
    """The value of the option `engine` for a cluster, with one shard for each master."""
    members = ",".join(f"127.0.0.1:{master.port}" for master in masters)
    return f"redis+cluster://{members}?shards={len(masters)}"


@dataclass(frozen=True, slots=True)
class Watched:
    """A master and a replica, and the sentinels that watch them.

    Attributes:
        address: what the option `engine` says.
    """

    address: str
    master: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]


@contextmanager
def redis_sentinels(directory: Path, password: str = "", down_after_ms: int = 300) -> Iterator[Watched]:
    """Start a master and its replica on loopback, and three sentinels, which agree on who is master.

    Args:
        directory: an existing one, for all of them.
        password: of master and replica; sentinels ask for none.
        down_after_ms: how long a silent master counts as alive.
    """
    with ExitStack() as stack:
        first, second, *ports = stack.enter_context(held_ports(5))

        def started(name: str, port: int, *flags: str, **more: Any) -> RedisServer:
            server = RedisServer(directory / name, "--bind", "127.0.0.1", *flags, port=port, **more)
            server.start()
            stack.callback(server.kill)
            return server

        # A master waits 5 s for more replicas before it copies itself, unless configured otherwise.
        quick = ("--repl-diskless-sync-delay", "0", "--save", "")
        master = started("master", first, *quick, password=password)
        of_master = ("--replicaof", "127.0.0.1", str(first))
        replica = started("replica", second, *quick, *of_master, password=password)
        eventually(
            lambda: "master_link_status:up" in replica.cli("INFO", "replication"),
            "the replica does not copy",
        )
        sentinels = []
        for number, port in enumerate(ports):
            file = directory / f"sentinel{number}.conf"
            file.write_text(_sentinel_settings(first, password, down_after_ms))
            sentinels.append(started(file.stem, port, "--sentinel", file=file))
        eventually(
            lambda: all("slaves=1,sentinels=3" in each.cli("INFO", "sentinel") for each in sentinels),
            "the sentinels do not find each other",
        )
        login = f":{password}@" if password else ""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield Watched(f"redis+sentinel://{login}{hosts}/main/0", master, replica, sentinels)


def _sentinel_settings(port: int, password: str, down_after_ms: int) -> str:
    lines = [
        f"sentinel monitor main 127.0.0.1 {port} 2",
        f"sentinel down-after-milliseconds main {down_after_ms}",
        "sentinel failover-timeout main 3000",
    ]
    if password:
        lines.append(f"sentinel auth-pass main {password}")
    return "\n".join(lines) + "\n"


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Ports for Redis, each with that of its cluster bus, 10,000 higher; none is one the system gives to connections.

    No other test gets them before or between the servers, which bind with SO_REUSEADDR.
    """
    with ExitStack() as stack:
        held: list[int] = []
        for port in random.sample(range(20_000, 22_700), 500):
            with suppress(OSError), ExitStack() as both:
                _hold(both, port)
                _hold(both, port + 10_000)
                stack.push(both.pop_all())
                held.append(port)
            if len(held) == count:
                break
        yield held


def _hold(stack: ExitStack, port: int) -> None:
    holder = stack.enter_context(socket.socket())
    holder.bind(("127.0.0.1", port))
    # Not earlier: nobody else may hold the port.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


class SlotMove:
    """The move of one slot to another master, in the steps of `redis-cli --cluster reshard`."""

    def __init__(self, source: RedisServer, target: RedisServer, slot: int) -> None:
        self.source, self.target = source, target
        self._slot = str(slot)

    def begin(self) -> None:
        self._set(self.target, "IMPORTING", self.source.cli("CLUSTER", "MYID"))
        self._set(self.source, "MIGRATING", self.target.cli("CLUSTER", "MYID"))

    def move(self, count: int) -> bool:
        """Move some keys; return whether there were any."""
        keys = self.source.cli("CLUSTER", "GETKEYSINSLOT", self._slot, str(count)).splitlines()
        if keys:
            answer = self.source.cli(
                "MIGRATE", "127.0.0.1", str(self.target.port), "", "0", "5000", "KEYS", *keys
            )
            assert answer in ("OK", "NOKEY"), answer
        return bool(keys)

    def cancel(self) -> None:
        """Leave the slot where it is; no key has been moved."""
        for master in (self.source, self.target):
            self._set(master, "STABLE")

    def finish(self) -> None:
        """Move the keys that are left, and give the slot to the target."""
        while self.move(10):
            pass
        for master in (self.target, self.source):
            self._set(master, "NODE", self.target.cli("CLUSTER", "MYID"))

    def at_once(self) -> bool:
        """Let the masters move the slot without these steps; return whether they can."""
        return _moves_at_once(self.source, self.target, self._slot)

    def _set(self, master: RedisServer, *parts: str) -> None:
        assert master.cli("CLUSTER", "SETSLOT", self._slot, *parts) == "OK"


def _moves_at_once(source: RedisServer, target: RedisServer, slot: str) -> bool:
    """Move a slot by `CLUSTER MIGRATESLOTS` of Valkey 9 and newer; return whether the servers know it."""
    to = target.cli("CLUSTER", "MYID")
    if (answer := source.cli("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to)) != "OK":
        assert "unknown subcommand" in answer.lower(), answer
        return False
    eventually(lambda: source.cli("CLUSTER", "COUNTKEYSINSLOT", slot) == "0", "the slot does not move")
    return True
