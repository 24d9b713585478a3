"""Where Redis is: from the option `engine` to something that makes connections."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from channelstream.errors import ConfigError

_OPTIONS: dict[str, Any] = {"protocol": 2, "socket_timeout": None, "health_check_interval": 0}
"""The engine has timeouts of its own."""


def connector(address: str, prefix: str) -> Callable[[], AbstractConnection]:
    """Return what makes connections, not connected yet.

    Args:
        address: one of Redis' own forms, or `redis+sentinel://host:port,host:port/name/number`, or
            `redis+cluster://host:port,host:port`.
        prefix: of all keys, which says what part of a cluster has them.

    Raises:
        ConfigError: the address cannot be read.
    """
    options = _OPTIONS | {"retry": Retry(NoBackoff(), 0)}
    parts = urlsplit(address)
    try:
        if parts.scheme == "redis+cluster":
            return lambda: _ClusterConnection(_hosts(address), prefix, _login(address) | options)
        if parts.scheme == "redis+sentinel":
            return _by_sentinel(address, options)
        pool: Any = ConnectionPool.from_url(address, **options)
    except (ValueError, IndexError) as error:
        raise ConfigError(f"engine: {error}") from error
    make: Callable[[], AbstractConnection] = pool.make_connection
    return make


def _by_sentinel(address: str, options: dict[str, Any]) -> Callable[[], AbstractConnection]:
    name, _, number = urlsplit(address).path.strip("/").partition("/")
    make_sentinel: Any = Sentinel  # untyped
    sentinel = make_sentinel(_hosts(address), **options)
    client = sentinel.master_for(name, db=int(number or 0), **_login(address), **options)
    make: Callable[[], AbstractConnection] = client.connection_pool.make_connection
    return make


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
