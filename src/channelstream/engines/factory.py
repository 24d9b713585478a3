"""Which engines there are: how the option `engine` names each, and how it is made. One row per engine."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from channelstream.core.registry import Registry, RegistryLimits
from channelstream.engines.base import Clock, Engine
from channelstream.engines.ledger import Lifetimes


@dataclass(frozen=True, slots=True)
class Parts:
    """What engines are made of; each takes what it needs.

    Attributes:
        address: the option `engine` as it was written.
        new_epoch: returns text that no other log had, without a hyphen at its end.
    """

    address: str
    limits: RegistryLimits
    lifetimes: Lifetimes
    clock: Clock
    new_id: Callable[[], str]
    new_epoch: Callable[[], str]


@dataclass(frozen=True, slots=True)
class EngineKind:
    """An engine as the configuration knows it.

    Attributes:
        form: how it is written, for people.
        pattern: regular expression of that form.
        make: imports the engine when it is wanted, so that nobody loads what another one needs.
    """

    form: str
    pattern: str
    make: Callable[[Parts], Engine]


def _memory(parts: Parts) -> Engine:
    from channelstream.engines.memory import MemoryEngine

    registry = Registry(parts.limits, parts.new_id)
    return MemoryEngine(registry, parts.clock, parts.new_epoch(), parts.lifetimes)


ENGINES = (EngineKind("memory", "memory", _memory),)
PATTERN = "|".join(kind.pattern for kind in ENGINES)
"""What the option `engine` may hold."""
FORMS = " or ".join(kind.form for kind in ENGINES)
"""The same, for people."""


def make_engine(parts: Parts) -> Engine:
    """Return the engine of an address, not yet started.

    Raises:
        LookupError: the address is none of `PATTERN`.
        ConfigError: it is one, and cannot be used.
    """
    for kind in ENGINES:
        if re.fullmatch(kind.pattern, parts.address):
            return kind.make(parts)
    raise LookupError(parts.address)
