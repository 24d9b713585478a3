"""The table of engines, one row each: how the option `engine` names it, and how it is made."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from channelstream.apps.keys import is_member_key
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.engines.base import Clock, Engine
from channelstream.engines.outbox import OutboxSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts an engine is made of; each engine takes those it needs.

    Attributes:
        address: the value of the option `engine`.
        new_epoch: returns text that no other log had, without a dot, and without a hyphen at its end.
        timeout_s: how long the service that has the log may take to answer.
        lease_s: how long the connections of a dead node stay registered.
        label: the machine and the process, for the list of nodes.
        outbox: what the outbox keeps.
    """

    address: str
    limits: RegistryLimits
    lifetimes: Lifetimes
    clock: Clock
    new_id: Callable[[], str]
    new_epoch: Callable[[], str]
    timeout_s: float = 5.0
    lease_s: float = 10.0
    label: str = ""
    outbox: OutboxSettings = field(default_factory=OutboxSettings)


@dataclass(frozen=True, slots=True)
class EngineKind:
    """An engine in the configuration.

    Attributes:
        form: the form of its address, for people.
        pattern: a regular expression of that form.
        shared: whether several processes can share it.
        make: makes the engine; imports its module only then, so that unused engines load no dependency.
    """

    form: str
    pattern: str
    shared: bool
    make: Callable[[Parts], Engine]


def _memory(parts: Parts) -> Engine:
    from channelstream.engines.memory import MemoryEngine

    registry = Registry(parts.limits, parts.new_id, is_member_key)
    return MemoryEngine(registry, parts.clock, parts.new_epoch(), parts.lifetimes, parts.outbox)


def _redis(parts: Parts) -> Engine:
    from channelstream.engines.redis.address import shard_addresses
    from channelstream.engines.redis.engine import RedisEngine
    from channelstream.engines.redis.shard_state import RedisSettings

    return RedisEngine(
        shard_addresses(parts.address),
        parts.limits,
        parts.lifetimes,
        parts.new_id,
        parts.new_epoch,
        parts.label,
        RedisSettings(parts.timeout_s, parts.lease_s),
        outbox=parts.outbox,
    )


def _sqlite(parts: Parts) -> Engine:
    from channelstream.engines.sqlite import SqliteEngine

    path = sqlite_path(parts.address).absolute()
    registry = Registry(parts.limits, parts.new_id, is_member_key)
    return SqliteEngine(
        path, registry, parts.clock, parts.lifetimes, parts.new_id, parts.new_epoch, parts.outbox
    )


MEMORY = EngineKind("memory", "memory", False, _memory)
REDIS = EngineKind(
    "redis://host:port/number",
    r"(redis|rediss|unix|redis\+sentinel|redis\+cluster)://\S+",
    True,
    _redis,
)
SQLITE = EngineKind("sqlite:///path", "sqlite:///.+", False, _sqlite)
ENGINES = (MEMORY, REDIS, SQLITE)
PATTERN = "|".join(kind.pattern for kind in ENGINES)
"""A regular expression of every valid address."""
FORMS = " or ".join(kind.form for kind in ENGINES)
"""All forms of addresses, for people."""


def kind_of(address: str) -> EngineKind:
    """Return the engine of an address.

    Raises:
        LookupError: the address does not match `PATTERN`.
    """
    for kind in ENGINES:
        if re.fullmatch(kind.pattern, address):
            return kind
    raise LookupError(address)


def is_shared(address: str) -> bool:
    """Return whether several processes can share the engine of an address."""
    return kind_of(address).shared


def sqlite_path(address: str) -> Path:
    """Return the path in the address of a SQLite engine.

    It is as SQLAlchemy writes it: three slashes before a relative path, four before an absolute one.
    """
    return Path(address.removeprefix("sqlite:///"))


def make_engine(parts: Parts) -> Engine:
    """Return an engine, not yet started.

    Raises:
        LookupError: the address does not match `PATTERN`.
        ConfigError: it matches, and cannot be used.
    """
    return kind_of(parts.address).make(parts)
