"""Where Redis is: from the option `engine` to what makes connections with each shard of the log."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
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

Connect = Callable[[], AbstractConnection]
"""Makes a connection that is not connected yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one shard of the log lies.

    Attributes:
        prefix: of all its keys and channels.
        in_cluster: whether it is a part of a cluster, in which published events need not go to all members.
    """

    connect: Connect
    prefix: str
    in_cluster: bool = False


def places(address: str) -> list[Place]:
    """Return where each shard is.

    Args:
        address: one of Redis' own forms, or `redis+sentinel://host:port,host:port/name/number`, or
            `redis+cluster://host:port,host:port?shards=3`.

    Raises:
        ConfigError: the address cannot be read.
    """
    options = _OPTIONS | {"retry": Retry(NoBackoff(), 0)}
    parts = urlsplit(address)
    try:
        if parts.scheme == "redis+cluster":
            hosts, options = _hosts(address), _login(address) | options
            return [_in_cluster(hosts, prefix, options) for prefix in prefixes(_shards(parts.query))]
        connect = (
            _by_sentinel(address, options) if parts.scheme == "redis+sentinel" else _by_url(address, options)
        )
    except (ValueError, IndexError) as error:
        raise ConfigError(f"engine: {error}") from error
    return [Place(connect, prefix) for prefix in prefixes(1)]


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


def _shards(query: str) -> int:
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    text = options.pop("shards", str(DEFAULT_SHARDS))
    if options:
        raise ValueError(f"a cluster has the option shards, not {', '.join(options)}")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SHARDS:
        raise ValueError(f"shards must be a number from 1 to {MAX_SHARDS}")
    return int(text)


def _by_url(address: str, options: dict[str, Any]) -> Connect:
    pool: Any = ConnectionPool.from_url(address, **options)
    make: Connect = pool.make_connection
    return make


def _by_sentinel(address: str, options: dict[str, Any]) -> Connect:
    name, _, number = urlsplit(address).path.strip("/").partition("/")
    make_sentinel: Any = Sentinel  # untyped
    sentinel = make_sentinel(_hosts(address), **options)
    client = sentinel.master_for(name, db=int(number or 0), **_login(address), **options)
    make: Connect = client.connection_pool.make_connection
    return make


def _in_cluster(hosts: list[tuple[str, int]], prefix: str, options: dict[str, Any]) -> Place:
    return Place(lambda: _ClusterConnection(hosts, prefix, options), prefix, in_cluster=True)


def _hosts(address: str) -> list[tuple[str, int]]:
    listed = urlsplit(address).netloc.rpartition("@")[2].split(",")
    pairs = (each.rpartition(":") for each in listed)
    return [(host, int(port)) for host, _, port in pairs]


def _login(address: str) -> dict[str, str]:
    user, _, password = urlsplit(address).netloc.rpartition("@")[0].partition(":")
    return {name: text for name, text in (("username", user), ("password", password)) if text}


class _ClusterConnection(Connection):
    """A connection with the part of a cluster that has the keys of a prefix, wherever that is by now."""

    def __init__(self, hosts: list[tuple[str, int]], prefix: str, options: dict[str, Any]) -> None:
        self._hosts = hosts
        self._slot = key_slot(prefix.encode())
        self._options = options
        host, port = hosts[0]
        super().__init__(host=host, port=port, **options)

    async def connect(self) -> None:
        self.host, self.port = await self._owner()
        await super().connect()  # type: ignore[no-untyped-call]

    async def _owner(self) -> tuple[str, int]:
        """Ask one member after the other who has the slot."""
        for host, port in self._hosts:
            member: Any = Connection(host=host, port=port, **self._options)
            try:
                await member.connect()
                await member.send_command("CLUSTER", "SLOTS")
                for first, last, owner, *_ in await member.read_response(disable_decoding=True):
                    if first <= self._slot <= last:
                        return owner[0].decode() or host, owner[1]
            except (RedisError, OSError):
                continue
            finally:
                await member.disconnect(nowait=True)
        raise Lost("no member of the cluster answers, or none has our keys")
