"""Three nodes on one Redis, one that sentinels watch, or a cluster, which a scenario can stop, kill and cut off."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import httpx
from tests.conftest import RunningServer, launch
from tests.redis_server import (
    RedisServer,
    cluster_address,
    cluster_replica,
    redis_cluster,
    redis_sentinels,
)
from tests.stoppable_line import StoppableLine

NODES = 3
LEASE_S = 6.0
FLAGS = (
    *("--node-lease-s", str(LEASE_S)),
    *("--engine-timeout-s", "3"),
    *("--heartbeat-interval-s", "1"),
    *("--poll-timeout-s", "2"),
    # All that is sent in a scenario: what was sent is never forgotten unless a scenario says so.
    *("--log-events", "20000"),
    *("--user-log-events", "5000"),
)
ANSWER_S = 5.0
PASSWORD = "a-password"
"""Of a Redis with sentinels."""
DOWN_AFTER_MS = 1000
"""A replica that has received nothing for ten times as long is not promoted."""


class Node:
    """One node's process."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._log = list(server.lines)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url, self.port = server.url, server.port

    def __repr__(self) -> str:
        return f"<node at {self.port}>"

    def _read(self) -> None:
        assert self._server.process.stdout is not None
        self._log.extend(self._server.process.stdout)

    @property
    def log(self) -> str:
        return "".join(self._log)

    @property
    def is_alive(self) -> bool:
        return self._server.process.poll() is None

    def sign(self, path: str) -> dict[str, str]:
        return self._server.sign(path)

    def signal(self, number: signal.Signals) -> None:
        self._server.process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as `kill -9` does."""
        self._server.process.kill()

    def stop(self) -> None:
        """Stop it gracefully, if it still runs, and read its log to the end."""
        if self.is_alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGINT)
            self._server.process.wait(20)
        self._reader.join()
        assert self._server.process.stdout is not None
        self._server.process.stdout.close()

    # -- memory (proc(5)) and figures

    def begin_peak(self) -> None:
        """Measure the most memory from now on."""
        self._proc("clear_refs").write_text("5")

    @property
    def resident_bytes(self) -> int:
        return self._status("VmRSS")

    @property
    def peak_bytes(self) -> int:
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        lines = self._proc("status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    def _proc(self, name: str) -> Path:
        return Path(f"/proc/{self._server.process.pid}") / name

    async def info(self, http: httpx.AsyncClient, channel: str) -> Any:
        """Return this node's answer about a channel; None while it cannot."""
        body = {"info": {"channels": [channel], "include_history": False}}
        answer = await http.post(self.url + "/info", json=body, headers=self.sign("/info"))
        return answer.json()["channels"].get(channel) if answer.status_code == 200 else None


@dataclass
class Cluster:
    """The nodes and their Redis.

    Attributes:
        servers: those of Redis: first the masters, then as many replicas, if there are any.
        lines: the line to Redis of each node that has one, by its place.
        nodes: those that a balancer sends requests to.
        all: also those that were killed.
    """

    servers: list[RedisServer]
    nodes: list[Node]
    lines: Mapping[int, StoppableLine]
    all: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.all = list(self.nodes)

    @property
    def redis(self) -> RedisServer:
        """The only one, of scenarios without a cluster and a replica."""
        [redis] = self.servers
        return redis

    def any(self, random: Random) -> Node:
        return random.choice(self.nodes)

    def kill(self, node: Node) -> None:
        """Kill a node; the balancer sends nothing there afterwards."""
        self.nodes.remove(node)
        node.kill()


@dataclass(frozen=True)
class Shape:
    """How a cluster is started.

    Attributes:
        masters: of a Redis cluster; 0 stands for one Redis that is none.
        has_replica: whether each master has a replica; one Redis has sentinels besides, which promote it.
        redis_flags: of `redis-server`.
        cut: places of nodes that reach Redis by a line.
        flags: of all nodes.
        environ: of nodes, by place.
    """

    masters: int = 0
    has_replica: bool = False
    redis_flags: Sequence[str] = ("--save", "")
    cut: Sequence[int] = ()
    flags: Sequence[str] = ()
    environ: Mapping[int, Mapping[str, str]] = field(default_factory=dict)


@contextmanager
def running(directory: Path, shape: Shape) -> Iterator[Cluster]:
    """Start Redis and the nodes; end them in any case."""
    with ExitStack() as stack:
        servers, address = _redis(stack, directory, shape)
        lines = {place: StoppableLine(servers[0].socket) for place in shape.cut}
        for line in lines.values():
            stack.callback(line.close)

        def start(place: int) -> Node:
            where = f"redis://127.0.0.1:{lines[place].port}/0" if place in lines else address
            node = Node(launch("--engine", where, *FLAGS, *shape.flags, **shape.environ.get(place, {})))
            stack.callback(node.stop)
            return node

        with ThreadPoolExecutor(NODES) as pool:
            nodes = list(pool.map(start, range(NODES)))
        yield Cluster(servers, nodes, lines)


def _redis(stack: ExitStack, directory: Path, shape: Shape) -> tuple[list[RedisServer], str]:
    """Start the servers of Redis; return them with the value of the option `engine`."""
    if shape.masters:
        masters = stack.enter_context(redis_cluster(directory, shape.masters, *shape.redis_flags))
        copied = masters if shape.has_replica else []
        replicas = [
            stack.enter_context(cluster_replica(directory, each, *shape.redis_flags)) for each in copied
        ]
        return [*masters, *replicas], cluster_address(masters)
    if shape.has_replica:
        watched = stack.enter_context(redis_sentinels(directory, PASSWORD, DOWN_AFTER_MS))
        return [watched.master, watched.replica], watched.address
    redis = RedisServer(directory / "redis", *shape.redis_flags)
    redis.start()
    stack.callback(redis.kill)
    return [redis], redis.address
