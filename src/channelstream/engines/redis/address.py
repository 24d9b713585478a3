"""The address of Redis: from the option `engine` to a factory of connections for each shard of the log."""

import asyncio
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any, ParamSpec, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from channelstream.core.position import MAX_SHARDS
from channelstream.errors import ConfigError

NAME = "channelstream"
"""The begin of all keys, in braces: the hash tag, which alone decides the slot of a key in a cluster."""
SLOTS = 16_384
"""The number of slots of a Redis cluster."""
DEFAULT_SHARDS = 3
"""The shards of a log in a cluster: the smallest number of masters that a cluster has."""
_OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "socket_timeout": None,
    "health_check_interval": 0,
    "driver_info": DriverInfo(),  # Else redis-py parses its own package metadata for each connection, which takes 2 ms.
}
"""Options of every connection; timeouts are those of the engine."""
_HOST = re.compile(r"\[[^][]+\]|[^][]+")
"""A name or an address, or an address in brackets."""
_UNREADABLE = "this is no address of Redis; in a password write %2F for /, %40 for @ and %23 for #"

MEMBER_TIMEOUT_S = 1.0
"""How long one member of a cluster may take to answer whether it has given a slot away, in seconds.

A member that answers later costs a new epoch, as a restart does: its events are reported as lost, and none is silently. A
longer time would delay each link after a failover, when the former master answers nothing: twice by this time.
"""

P = ParamSpec("P")
T = TypeVar("T")
Host = tuple[str, int]

Connect = Callable[[], AbstractConnection]
"""Returns a connection that is not connected yet."""


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


async def _never_moves(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class ShardAddress:
    """The address of one shard of the log.

    Attributes:
        prefix: of all its keys and channels.
        in_cluster: whether it lies in a cluster, where sharded publish may be used.
        has_moved: returns whether the master with a run id lives and has given away all keys of this shard's slot.
    """

    connect: Connect
    prefix: str
    in_cluster: bool = False
    has_moved: Callable[[str], Awaitable[bool]] = _never_moves


def shard_addresses(address: str) -> list[ShardAddress]:
    """Return the address of each shard.

    Args:
        address: a URL of Redis, or `redis+sentinel://host:port,host:port/name/number`, or
            `redis+cluster://host:port,host:port?shards=3`. Special characters in a user or a password are percent-encoded.

    Raises:
        ConfigError: the address cannot be read. The error repeats nothing of it: the fault may be in a password.
    """
    options = _OPTIONS | {"retry": Retry(NoBackoff(), 0)}
    try:
        parts = _split(address)
        if parts.scheme == "redis+cluster":
            hosts, options = _hosts(parts.netloc), _login(parts.netloc) | options
            return [_in_cluster(hosts, prefix, options) for prefix in prefixes(_shards(parts))]
        connect = (
            _by_sentinel(parts, options) if parts.scheme == "redis+sentinel" else _by_url(parts, options)
        )
        # Made and dropped: redis-py validates the options of an address only when it makes a connection.
        number = connect().db
    except _Mistake as error:
        raise ConfigError(f"engine: {error}") from None
    except (ValueError, TypeError):
        raise ConfigError(f"engine: {_UNREADABLE}") from None
    # Pub/sub channels are shared by all databases of a Redis.
    part = f"{number}:" if number else ""
    return [ShardAddress(connect, prefix + part) for prefix in prefixes(1)]


def _split(address: str) -> SplitResult:
    """Split a URL, in which several hosts may be named: `urlsplit` of CPython 3.14 refuses one in brackets beside others."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() not in ("redis+sentinel", "redis+cluster"):
        return urlsplit(address)
    hosts = re.split("[/?#]", rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}://hosts{rest.removeprefix(hosts)}")._replace(netloc=hosts)


class _Mistake(Exception):
    """A fault in an address; the text repeats nothing of the address."""


def prefixes(shards: int) -> list[str]:
    """Return a prefix for each shard, each in another of as many equal parts of a cluster's slots.

    The first is the same for every number of shards, so nodes that disagree about the number find out.
    """
    part = SLOTS // shards
    first = key_slot(NAME.encode()) // part
    others = [_name_in((first + shard) % shards * part, part) for shard in range(1, shards)]
    return [f"{{{name}}}:" for name in (NAME, *others)]


def _name_in(start: int, slots: int) -> str:
    """Return a name in the middle half of a part of the slots, since masters do not have exactly equal parts."""
    names = (f"{NAME}:{number}" for number in count())
    return next(name for name in names if slots // 4 <= key_slot(name.encode()) - start < 3 * slots // 4)


def _shards(parts: SplitResult) -> int:
    if parts.path.strip("/"):
        raise _Mistake("a cluster has only one database: nothing may follow the port but ?shards=N")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    text = options.pop("shards", str(DEFAULT_SHARDS))
    if options:
        raise _Mistake("a cluster has the option shards and no other")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SHARDS:
        raise _Mistake(f"shards must be a number from 1 to {MAX_SHARDS}")
    return int(text)


def _by_url(parts: SplitResult, options: dict[str, Any]) -> Connect:
    if "shards" in dict(parse_qsl(parts.query, keep_blank_values=True)):
        raise _Mistake("shards is an option of redis+cluster:// only")
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2] or not parts.path:
            raise _Mistake("a socket has an absolute path: unix:///path")
    else:
        _database(parts.path.strip("/"))
        parts.port  # noqa: B018 - raises ValueError for what is no port.
    pool: Any = ConnectionPool.from_url(parts.geturl(), **options)
    make: Connect = pool.make_connection
    return make


def _by_sentinel(parts: SplitResult, options: dict[str, Any]) -> Connect:
    name, _, number = parts.path.strip("/").partition("/")
    if not name:
        raise _Mistake("after the sentinels the name of their master is missing: .../name/0")
    hosts, more = _hosts(parts.netloc), {"db": _database(number)} | _login(parts.netloc) | options
    return lambda: _SentinelConnection(hosts, unquote(name), more)


def _database(text: str) -> int:
    if text and not text.isdecimal():
        raise _Mistake("the number of the database is no number; in a password write %2F for /")
    return int(text or 0)


def _in_cluster(hosts: Sequence[Host], prefix: str, options: dict[str, Any]) -> ShardAddress:
    has_moved = partial(_has_given_away, hosts, key_slot(prefix.encode()), options)
    return ShardAddress(lambda: _ClusterConnection(hosts, prefix, options), prefix, True, has_moved)


def _hosts(netloc: str) -> list[Host]:
    pairs = [each.rpartition(":") for each in netloc.rpartition("@")[2].split(",")]
    if not all(_HOST.fullmatch(host) and port.isdecimal() and int(port) < 65_536 for host, _, port in pairs):
        raise _Mistake(
            "each member is written host:port, with commas between; in a password write %2F for / and %40 for @"
        )
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


def _login(netloc: str) -> dict[str, str]:
    user, _, password = netloc.rpartition("@")[0].partition(":")
    return {name: unquote(text) for name, text in (("username", user), ("password", password)) if text}


class _FoundConnection(Connection):
    """A connection with a server whose address is asked from others at each connect."""

    nobody: str
    """The error text when none of them knows it."""

    def __init__(self, hosts: Sequence[Host], options: dict[str, Any]) -> None:
        self._hosts = hosts
        host, port = hosts[0]
        super().__init__(host=host, port=port, **options)

    async def connect(self) -> None:
        self.host, self.port = await self._find()
        await super().connect()  # type: ignore[no-untyped-call]

    async def _find(self) -> Host:
        """Ask all at once: one that hangs, for example because its machine is down, must not delay the others."""
        asked = [asyncio.ensure_future(self._ask_any(host)) for host in self._hosts]
        try:
            for answer in asyncio.as_completed(asked):
                if found := await answer:
                    return found
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise Lost(self.nobody)

    async def _ask_any(self, host: Host) -> Host | None:
        """Ask a member that may be out of reach; None also if it is."""
        try:
            return await self._ask(host)
        except (RedisError, OSError):
            return None

    @abstractmethod
    async def _ask(self, host: Host) -> Host | None:
        """Return the address of the server according to one member; None if it knows none."""


async def _answer(host: Host, options: dict[str, Any], *command: str) -> Any:
    """Run one command on a new connection."""
    member: Any = Connection(host=host[0], port=host[1], **options)
    try:
        await member.connect()
        await send(member, member.pack_command(*command))
        return await member.read_response(disable_decoding=True)
    finally:
        await member.disconnect(nowait=True)


class _SentinelConnection(_FoundConnection):
    """A connection with the master that sentinels know by a name. Sentinels are asked without a password."""

    def __init__(self, hosts: Sequence[Host], name: str, options: dict[str, Any]) -> None:
        self._name = name
        self.nobody = f"no sentinel answers, or none knows a master called {name!r}"
        super().__init__(hosts, options)

    async def _ask(self, host: Host) -> Host | None:
        options = _OPTIONS | {"retry": Retry(NoBackoff(), 0)}
        address = await _answer(host, options, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        return (address[0].decode(), int(address[1])) if address else None


class _ClusterConnection(_FoundConnection):
    """A connection with the master that has the slot of a prefix at the time of the connect."""

    nobody = "no member of the cluster answers, or none has our keys"

    def __init__(self, hosts: Sequence[Host], prefix: str, options: dict[str, Any]) -> None:
        self._slot = key_slot(prefix.encode())
        self._options = options
        super().__init__(hosts, options)

    async def _ask(self, host: Host) -> Host | None:
        for first, last, owner, *_ in await _answer(host, self._options, "CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                # An empty host means the member that answered.
                return (owner[0] or b"").decode() or host[0], owner[1]
        return None


async def _has_given_away(hosts: Sequence[Host], slot: int, options: dict[str, Any], run_id: str) -> bool:
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
