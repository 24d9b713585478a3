"""The address of Redis: from the option `engine` to a factory of connections for each shard of the log."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.crc import key_slot

from channelstream.core.position import MAX_SHARDS
from channelstream.engines.redis.servers import (
    ClusterConnection,
    Host,
    SentinelConnection,
    connection_options,
    has_given_away,
)
from channelstream.errors import ConfigError

NAME = "channelstream"
"""The begin of all keys, in braces: the hash tag, which alone decides the slot of a key in a cluster."""
SLOTS = 16_384
"""The number of slots of a Redis cluster."""
DEFAULT_SHARDS = 3
"""The shards of a log in a cluster: the smallest number of masters that a cluster has."""
_HOST = re.compile(r"\[[^][]+\]|[^][]+")
"""A name or an address, or an address in brackets."""
_UNREADABLE = "this is no address of Redis; in a password write %2F for /, %40 for @ and %23 for #"

Connect = Callable[[], AbstractConnection]
"""Returns a connection that is not connected yet."""


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
    options = connection_options()
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
    return lambda: SentinelConnection(hosts, unquote(name), more)


def _database(text: str) -> int:
    if text and not text.isdecimal():
        raise _Mistake("the number of the database is no number; in a password write %2F for /")
    return int(text or 0)


def _in_cluster(hosts: Sequence[Host], prefix: str, options: dict[str, Any]) -> ShardAddress:
    has_moved = partial(has_given_away, hosts, key_slot(prefix.encode()), options)
    return ShardAddress(lambda: ClusterConnection(hosts, prefix, options), prefix, True, has_moved)


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
