"""Starts Redis servers for a run, and reads their usage: commands, bytes, time."""

import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass
from itertools import islice
from operator import add, sub
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from channelstream.bench.redis_process import HOST, START_TIMEOUT_S, RedisProcess, redis_process, until
from channelstream.engines.redis.address import SLOTS, shard_addresses

MASTERS = 3
_NESTED_IN = ("evalsha",)
_AT_TOP = (*_NESTED_IN, "subscribe", "ssubscribe", "unsubscribe", "sunsubscribe")
"""Commands whose time counts. The time of other commands is part of the script's."""
_OWN = ("info",)
PORTS = range(13_000, 19_900)
"""Below those that Linux gives to connections, from 32,768 on (ip_local_port_range of ip(7)), as their buses are."""


@dataclass(frozen=True, slots=True)
class Used:
    """Usage of one Redis, or of several together.

    Attributes:
        scripts: calls of the engine's script.
        pages: pages of sets and hashes that were read by other commands.
        commands: commands within scripts, and other commands of the nodes.
        busy_us: time within commands, as Redis reports it.
        cpu_us: CPU of the whole process.
    """

    scripts: int = 0
    pages: int = 0
    commands: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    busy_us: float = 0.0
    cpu_us: float = 0.0

    def __add__(self, other: "Used") -> "Used":
        return Used(*map(add, astuple(self), astuple(other)))

    def __sub__(self, other: "Used") -> "Used":
        return Used(*map(sub, astuple(self), astuple(other)))


class Master:
    """A Redis process, with a connection that reads its usage."""

    def __init__(self, server: RedisProcess) -> None:
        self.process = server.process
        self.socket = server.socket
        self.address = server.address
        self._connection: AbstractConnection = shard_addresses(self.address)[0].connect()
        self._own_bytes = 0

    async def command(self, *parts: Any) -> Any:
        """Run one command."""
        await self._connection.send_command(*parts)
        return await self._connection.read_response(disable_decoding=True)

    async def count(self, key: str) -> int:
        """Return the size of a set; 0 if another master has it."""
        try:
            found: int = await self.command("SCARD", key)
        except ResponseError:
            return 0
        return found

    async def used(self) -> Used:
        """Read its usage, without the cost of this call."""
        info = await self.command("INFO", "all")
        fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        stats = {
            name.removeprefix("cmdstat_"): dict(pair.split("=") for pair in fields[name].split(","))
            for name in fields
            if name.startswith("cmdstat_")
        }
        calls = {name: int(each["calls"]) for name, each in stats.items()}
        asked = calls.get("info", 0) + 1
        # Redis has not counted the present answer yet.
        used = Used(
            scripts=calls.get("evalsha", 0),
            pages=calls.get("hscan", 0) + calls.get("sscan", 0),
            commands=sum(count for name, count in calls.items() if name not in (*_NESTED_IN, *_OWN)),
            bytes_in=int(fields["total_net_input_bytes"]) - asked * len("*2\r\n$4\r\nINFO\r\n$3\r\nall\r\n"),
            bytes_out=int(fields["total_net_output_bytes"]) - self._own_bytes,
            busy_us=sum(float(stats[name]["usec"]) for name in _AT_TOP if name in stats),
            cpu_us=(float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])) * 1e6,
        )
        self._own_bytes += len(info) + len(f"${len(info)}\r\n\r\n")
        return used

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


@dataclass(frozen=True, slots=True)
class Store:
    """The Redis servers of an engine's address.

    Attributes:
        address: the value of the option `engine`.
    """

    name: str
    address: str
    masters: Sequence[Master]

    async def used(self) -> list[Used]:
        """Return the usage of each master so far."""
        return [await master.used() for master in self.masters]

    async def flush(self) -> None:
        for master in self.masters:
            await master.command("FLUSHALL")

    async def memory(self) -> int:
        """Return the memory of all masters in bytes."""
        info = [(await master.command("INFO", "memory")).decode() for master in self.masters]
        return sum(int(each.partition("used_memory:")[2].split()[0]) for each in info)

    @property
    def pids(self) -> list[int]:
        return [master.process.pid for master in self.masters]


@asynccontextmanager
async def one_redis() -> AsyncIterator[Store]:
    """Start one Redis on a unix socket, without persistence."""
    async with _master() as master:
        yield Store("Redis", master.address, [master])


@asynccontextmanager
async def cluster(shards: int) -> AsyncIterator[Store]:
    """Start a cluster of three masters on loopback, for a log with `shards` shards. A master can have several."""
    ports = free_ports(MASTERS)
    async with AsyncExitStack() as stack:
        masters = [await stack.enter_async_context(_master(port)) for port in ports]
        share = SLOTS // MASTERS + 1
        for number, master in enumerate(masters):
            first, last = number * share, min((number + 1) * share, SLOTS) - 1
            await master.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            await master.command("CLUSTER", "ADDSLOTSRANGE", first, last)
            await master.command("CLUSTER", "MEET", HOST, ports[0])
        await until(lambda: _are_whole(masters), START_TIMEOUT_S, "the cluster did not form")
        hosts = ",".join(f"{HOST}:{port}" for port in ports)
        yield Store(f"{shards} shards", f"redis+cluster://{hosts}?shards={shards}", masters)


async def _are_whole(masters: Sequence[Master]) -> bool:
    info = [await master.command("CLUSTER", "INFO") for master in masters]
    return all(b"cluster_state:ok" in each for each in info)


@asynccontextmanager
async def _master(port: int = 0) -> AsyncIterator[Master]:
    """Start one process; with a port it is a part of a cluster."""
    flags = ("--port", str(port), "--cluster-enabled", "yes") if port else ()
    async with redis_process(*flags) as server:
        master = Master(server)
        try:
            yield master
        finally:
            await master.close()


def free_ports(count: int) -> list[int]:
    """Return free ports whose cluster buses, 10,000 higher, are free as well.

    The system gives none of them to connections, of which a bench has very many.
    """
    numbers = random.sample(PORTS, len(PORTS))
    return list(islice((port for port in numbers if _is_free(port) and _is_free(port + 10_000)), count))


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
