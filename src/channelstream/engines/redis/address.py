"""Where Redis is: from the option `engine` to what makes connections with each shard of the log."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from channelstream.core.position import MAX_SHARDS
from channelstream.errors import ConfigError

NAME = "channelstream"
"""What all keys begin with, in braces: the part of a key that says where in a cluster it lies."""
SLOTS = 16_384
"""Of a Redis cluster."""
DEFAULT_SHARDS = 3
"""Of a log in a cluster: the fewest masters one can have."""
_OPTIONS: dict[str, Any] = {"protocol": 2, "socket_timeout": None, "health_check_interval": 0}
"""The engine has timeouts of its own."""
_UNREADABLE = "this is no address of Redis; in a password write %2F for /, %40 for @ and %23 for #"

Host = tuple[str, int]

Connect = Callable[[], AbstractConnection]
"""Makes a connection that is not connected yet."""


@dataclass(frozen=True, slots=True)
class ShardAddress:
    """Where one shard of the log lies.

    Attributes:
        prefix: of all its keys and channels.
        in_cluster: whether it is a part of a cluster, in which published events need not go to all members.
    """

    connect: Connect
    prefix: str
    in_cluster: bool = False


def shard_addresses(address: str) -> list[ShardAddress]:
    """Return where each shard is.

    Args:
        address: one of Redis' own forms, or `redis+sentinel://host:port,host:port/name/number`, or
            `redis+cluster://host:port,host:port?shards=3`. What is special in a user or a password is percent-encoded.

    Raises:
        ConfigError: the address cannot be read. It repeats nothing of it: what is wrong may be a password.
    """
    options = _OPTIONS | {"retry": Retry(NoBackoff(), 0)}
    try:
        parts = urlsplit(address)
        if parts.scheme == "redis+cluster":
            hosts, options = _hosts(parts.netloc), _login(parts.netloc) | options
            return [_in_cluster(hosts, prefix, options) for prefix in prefixes(_shards(parts))]
        connect = (
            _by_sentinel(parts, options) if parts.scheme == "redis+sentinel" else _by_url(parts, options)
        )
        # Made and dropped: redis-py judges the options in an address only now.
        number = connect().db
    except _Mistake as error:
        raise ConfigError(f"engine: {error}") from None
    except (ValueError, TypeError):
        raise ConfigError(f"engine: {_UNREADABLE}") from None
    # What is published is heard in all databases of a Redis.
    part = f"{number}:" if number else ""
    return [ShardAddress(connect, prefix + part) for prefix in prefixes(1)]


class _Mistake(Exception):
    """What is wrong with an address, without anything of it."""


def prefixes(shards: int) -> list[str]:
    """Return the prefixes of so many shards, each in another of as many equal parts of a cluster's slots.

    The first is always the same, so that nodes that disagree about their number find out.
    """
    part = SLOTS // shards
    first = key_slot(NAME.encode()) // part
    others = [_name_in((first + shard) % shards * part, part) for shard in range(1, shards)]
    return [f"{{{name}}}:" for name in (NAME, *others)]


def _name_in(start: int, slots: int) -> str:
    """Return the first name in the middle half of so many slots, as masters do not have exactly the same number."""
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
    return ShardAddress(lambda: _ClusterConnection(hosts, prefix, options), prefix, in_cluster=True)


def _hosts(netloc: str) -> list[Host]:
    pairs = [each.rpartition(":") for each in netloc.rpartition("@")[2].split(",")]
    if not all(host and port.isdecimal() and int(port) < 65_536 for host, _, port in pairs):
        raise _Mistake(
            "each member is written host:port, with commas between; in a password write %2F for / and %40 for @"
        )
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


def _login(netloc: str) -> dict[str, str]:
    user, _, password = netloc.rpartition("@")[0].partition(":")
    return {name: unquote(text) for name, text in (("username", user), ("password", password)) if text}


class _FoundConnection(Connection):
    """A connection with a server that others know, who are asked at each connecting."""

    nobody: str
    """What is said when none of them knows."""

    def __init__(self, hosts: Sequence[Host], options: dict[str, Any]) -> None:
        self._hosts = hosts
        host, port = hosts[0]
        super().__init__(host=host, port=port, **options)

    async def connect(self) -> None:
        self.host, self.port = await self._find()
        await super().connect()  # type: ignore[no-untyped-call]

    async def _find(self) -> Host:
        """Ask all at once: one that hangs, as it does where its machine is gone, must not keep the others from answering."""
        asked = [asyncio.ensure_future(self._ask(host)) for host in self._hosts]
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    if found := await answer:
                        return found
                except (RedisError, OSError):
                    continue
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise Lost(self.nobody)

    @abstractmethod
    async def _ask(self, host: Host) -> Host | None:
        """Return where one member says the server is, None where it knows of none."""


async def _answer(host: Host, options: dict[str, Any], *command: str) -> Any:
    """Run one command on a connection of its own."""
    member: Any = Connection(host=host[0], port=host[1], **options)
    try:
        await member.connect()
        await member.send_command(*command)
        return await member.read_response(disable_decoding=True)
    finally:
        await member.disconnect(nowait=True)


class _SentinelConnection(_FoundConnection):
    """A connection with the master that sentinels know by a name. They ask for no password."""

    def __init__(self, hosts: Sequence[Host], name: str, options: dict[str, Any]) -> None:
        self._name = name
        self.nobody = f"no sentinel answers, or none knows a master called {name!r}"
        super().__init__(hosts, options)

    async def _ask(self, host: Host) -> Host | None:
        options = _OPTIONS | {"retry": Retry(NoBackoff(), 0)}
        address = await _answer(host, options, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        return (address[0].decode(), int(address[1])) if address else None


class _ClusterConnection(_FoundConnection):
    """A connection with the part of a cluster that has the keys of a prefix, wherever that is by now."""

    nobody = "no member of the cluster answers, or none has our keys"

    def __init__(self, hosts: Sequence[Host], prefix: str, options: dict[str, Any]) -> None:
        self._slot = key_slot(prefix.encode())
        self._options = options
        super().__init__(hosts, options)

    async def _ask(self, host: Host) -> Host | None:
        for first, last, owner, *_ in await _answer(host, self._options, "CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                # Empty or nothing: the member we asked, at another port.
                return (owner[0] or b"").decode() or host[0], owner[1]
        return None
