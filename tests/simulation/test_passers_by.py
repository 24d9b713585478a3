"""Plays seeds in which users pass by (`passers_by.py`); what is planted is found."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.simulation.drawn import drawn_seeds
from tests.simulation.passers_by import PASSERS_BY
from tests.simulation.planted import first_failure
from tests.simulation.report import run_seed

from channelstream.core.channel import Channel
from channelstream.core.registry import Registry

RANDOM = 8
"""Seeds drawn for each commit."""


@pytest.mark.slow
def test_random_seeds() -> None:
    """All promises hold while channels are forgotten soon after their last member; a failure names its seed."""
    received = sum(run_seed(seed, PASSERS_BY) for seed in drawn_seeds(RANDOM))
    assert received > RANDOM  # Else nothing was simulated.


def channel_of(registry: Registry, subject: Any) -> Channel | None:
    """Return the channel that a call is about: it is given by itself, by its name, or by an entry in it."""
    if isinstance(subject, Channel):
        return subject
    return registry.channels.get(subject if isinstance(subject, str) else subject.event.channel)


def unnoticed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the registry after which a channel is as brief as before."""

    def call(registry: Registry, subject: Any, *more: Any) -> Any:
        before = channel_of(registry, subject)
        was_brief = before is not None and before.is_brief
        result = method(registry, subject, *more)
        after = channel_of(registry, subject)
        if after is not None and after is before:
            after.is_brief = was_brief
        return result

    return call


@pytest.mark.slow
@pytest.mark.parametrize("method", ["add_member", "commit", "configure"])
def test_a_channel_that_is_forgotten_though_it_was_used_is_found(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """By a member who may come back, by an event, or by settings that somebody has chosen."""
    monkeypatch.setattr(Registry, method, unnoticed(getattr(Registry, method)))
    assert first_failure("forgotten too early: [afghi] ", PASSERS_BY)


@pytest.mark.slow
def test_a_channel_that_stays_though_nobody_misses_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be memory that strangers take, for days."""
    monkeypatch.setattr(Channel, "is_brief", property(lambda _: False, lambda *_: None))
    assert first_failure("idle for too long: [fghi] ", PASSERS_BY)


@pytest.mark.slow
def test_a_new_channel_that_speaks_for_the_forgotten_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was published while it was forgotten is nowhere, so that nobody may be sent that nothing was missed."""
    open_channel = Registry.open_channel

    def opened(registry: Registry, name: str, patch: Any, _floor: int, *more: Any) -> Channel:
        return open_channel(registry, name, patch, 0, *more)

    monkeypatch.setattr(Registry, "open_channel", opened)
    assert first_failure("missing: ", PASSERS_BY)
