"""The servers that an address stands for: which one is the master of a shard, as sentinels or members of a cluster say."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Any, ParamSpec, TypeVar

from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.driver_info import DriverInfo
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Lost

_OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "socket_timeout": None,
    "health_check_interval": 0,
    "driver_info": DriverInfo(),  # Else redis-py parses its own package metadata for each connection, which takes 2 ms.
}

MEMBER_TIMEOUT_S = 1.0
"""How long one member of a cluster may take to answer whether it has given a slot away, in seconds.

A member that answers later costs a new epoch, as a restart does: its events are reported as lost, and none is silently. A
longer time would delay each link after a failover, when the former master answers nothing: twice by this time.
"""

REFUSALS = (ResponseError, AuthenticationError)
"""Errors that a server answers: it is there. redis-py has a refused login among the lost connections."""

P = ParamSpec("P")
T = TypeVar("T")
Host = tuple[str, int]


def connection_options() -> dict[str, Any]:
    """Return the options of a connection that is not repeated; timeouts are those of the engine."""
    return _OPTIONS | {"retry": Retry(NoBackoff(), 0)}


async def send(connection: AbstractConnection, packed: Iterable[bytes]) -> None:
    """Send packed commands.

    Raises:
        RedisError: the connection is lost.
        OSError: the same.
    """
    try:
        await connection.send_packed_command(packed, check_health=False)
    except RuntimeError as error:
        # uvloop refuses to write to what it has closed, and the reader is not informed before the next turn.
        raise Lost("it was closed meanwhile") from error


class _FoundConnection(Connection):
    """A connection with a server whose address is asked from others at each connect."""

    unknown: str
    """What is said of one that does not know it."""

    def __init__(self, hosts: Sequence[Host], options: dict[str, Any]) -> None:
        self._hosts = hosts
        host, port = hosts[0]
        super().__init__(host=host, port=port, **options)

    async def connect(self) -> None:
        self.host, self.port = await self._find()
        await super().connect()  # type: ignore[no-untyped-call]

    async def _find(self) -> Host:
        """Ask all at once: one that hangs, for example because its machine is down, must not delay the others."""
        faults: dict[Host, str] = {}
        asked = [asyncio.ensure_future(self._ask_any(host, faults)) for host in self._hosts]
        try:
            for answer in asyncio.as_completed(asked):
                if found := await answer:
                    return found
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        # In the order of the address, not of the answers: an error that stays the same is logged once.
        raise Lost("; ".join(f"{host[0]}:{host[1]} {faults[host]}" for host in dict.fromkeys(self._hosts)))

    async def _ask_any(self, host: Host, faults: dict[Host, str]) -> Host | None:
        """Ask a member that may be out of reach, and note why it has named no server."""
        try:
            if found := await self._ask(host):
                return found
            faults[host] = self.unknown
        except REFUSALS as error:
            faults[host] = f"refuses: {_sentence(error)}"
        except (RedisError, OSError) as error:
            faults[host] = f"does not answer: {_sentence(error)}"
        return None

    @abstractmethod
    async def _ask(self, host: Host) -> Host | None:
        """Return the address of the server according to one member; None if it knows none."""


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


async def _answer(host: Host, options: dict[str, Any], *command: str) -> Any:
    """Run one command on a new connection."""
    member: Any = Connection(host=host[0], port=host[1], **options)
    try:
        await member.connect()
        await send(member, member.pack_command(*command))
        return await member.read_response(disable_decoding=True)
    finally:
        await member.disconnect(nowait=True)


class SentinelConnection(_FoundConnection):
    """A connection with the master that sentinels know by a name. Sentinels are asked without a password."""

    def __init__(self, hosts: Sequence[Host], name: str, options: dict[str, Any]) -> None:
        self._name = name
        self.unknown = f"knows no master called {name!r}"
        super().__init__(hosts, options)

    async def _ask(self, host: Host) -> Host | None:
        address = await _answer(host, connection_options(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        return (address[0].decode(), int(address[1])) if address else None


class ClusterConnection(_FoundConnection):
    """A connection with the master that has the slot of a prefix at the time of the connect."""

    def __init__(self, hosts: Sequence[Host], prefix: str, options: dict[str, Any]) -> None:
        self._slot = key_slot(prefix.encode())
        self.unknown = f"knows no master of slot {self._slot}"
        self._options = options
        super().__init__(hosts, options)

    async def _ask(self, host: Host) -> Host | None:
        for first, last, owner, *_ in await _answer(host, self._options, "CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                # An empty host means the member that answered.
                return (owner[0] or b"").decode() or host[0], owner[1]
        return None


async def has_given_away(hosts: Sequence[Host], slot: int, options: dict[str, Any], run_id: str) -> bool:
    """Return whether the master with a run id lives and has no key of a slot.

    A master that was replaced by its replica has ended, or is a replica itself.
    """
    known = await asyncio.gather(*(_in_time([], _masters, host, options) for host in hosts))
    masters = dict.fromkeys(chain.from_iterable(known))
    return any(
        await asyncio.gather(*(_in_time(False, _gave_away, host, slot, options, run_id) for host in masters))
    )


async def _masters(host: Host, options: dict[str, Any]) -> list[Host]:
    """Return the living masters that one member of a cluster knows, also those without slots."""
    lines = (await _answer(host, options, "CLUSTER", "NODES")).decode().splitlines()
    return list(_living_masters(host, (line.split() for line in lines)))


def _living_masters(asked: Host, lines: Iterable[Sequence[str]]) -> Iterable[Host]:
    for _, address, flags, *_ in lines:
        if {"master", "fail", "fail?", "noaddr", "handshake"} & set(flags.split(",")) == {"master"}:
            host, _, port = address.partition("@")[0].rpartition(":")
            # An empty host means the member that answered.
            yield host or asked[0], int(port)


async def _gave_away(host: Host, slot: int, options: dict[str, Any], run_id: str) -> bool:
    about = info_fields(await _answer(host, options, "INFO"))
    if (about["run_id"], about["role"]) != (run_id, "master"):
        return False
    return int(await _answer(host, options, "CLUSTER", "COUNTKEYSINSLOT", str(slot))) == 0


async def _in_time(otherwise: T, ask: Callable[P, Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
    """Return the answer of a member, or something else if it gives none in time.

    `ask` is called here: a coroutine that was made by the caller would never be awaited if this is cancelled before it runs.
    """
    try:
        async with asyncio.timeout(MEMBER_TIMEOUT_S):
            return await ask(*args, **named)
    except (RedisError, OSError):  # TimeoutError is an OSError.
        return otherwise


def info_fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines())
    return {name: value.strip() for name, _, value in lines}
