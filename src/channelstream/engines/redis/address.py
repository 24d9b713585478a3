"""Where Redis is: from the option `engine` to something that makes connections."""

from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from channelstream.errors import ConfigError

_OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "socket_timeout": None,
    "retry": Retry(NoBackoff(), 0),
    "health_check_interval": 0,
}
"""The engine has timeouts and retries of its own, and must know of every connection that broke."""


def connector(address: str) -> Callable[[], AbstractConnection]:
    """Return what makes connections, not connected yet.

    Raises:
        ConfigError: the address cannot be read.
    """
    try:
        pool: Any = ConnectionPool.from_url(address, **_OPTIONS)
    except ValueError as error:
        raise ConfigError(f"engine: {error}") from error
    make: Callable[[], AbstractConnection] = pool.make_connection
    return make
