"""The table of engines."""

import re
from dataclasses import replace

import pytest
from tests.engines.conformance import MovedClock

from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.engines.factory import ENGINES, Parts, make_engine

PARTS = Parts("memory", RegistryLimits(), Lifetimes(), MovedClock(), lambda: "id", lambda: "epoch")


def test_the_memory_engine_is_named_memory() -> None:
    """Its address is its name."""
    assert make_engine(PARTS).name == "memory"


def test_an_unknown_address_is_no_engine() -> None:
    """An address that matches no pattern is refused."""
    with pytest.raises(LookupError):
        make_engine(replace(PARTS, address="memory://x"))


def test_no_address_means_two_engines() -> None:
    """The forms shown to people are addresses of their own engine and of no other."""
    for kind in ENGINES:
        assert [other for other in ENGINES if re.fullmatch(other.pattern, kind.form)] == [kind]
