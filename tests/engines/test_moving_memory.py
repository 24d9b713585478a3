"""The memory engine moves to another process: the shared suite."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.engines.conformance.moving import *  # noqa: F403
from tests.engines.conformance.moving import Lab, Move
from tests.engines.conformance.outbox import fact_form, kept
from tests.engines.moves import Processes
from tests.engines.test_memory import memory_engine

from channelstream.engines.base import Engine
from channelstream.engines.outbox import passed


async def at_once(engine: Engine) -> None:
    """The receiver is called before `publish` returns."""


@pytest.fixture
def processes() -> Iterator[Processes]:
    epochs = iter(("first", "second", "third"))
    with asyncio.Runner() as runner:
        processes = Processes(runner, lambda setup: memory_engine(setup, next(epochs)), at_once)
        yield processes
        processes.end()


def test_the_outbox_moves(begun: Lab, move: Move) -> None:
    """Facts, cursors and numbers; nothing about who is connected, and what happens there is kept behind it."""
    for number in range(40):
        begun.connect(f"user{number}", "a", notify_presence=True)
    outbox = begun.engine.outbox
    before = kept(begun)
    cursor = passed(outbox.beginning, before[:5])
    begun.run(outbox.settle(1, {"one": cursor}))
    lab = move()
    assert kept(lab) == before[5:]
    assert lab.run(lab.engine.outbox.cursors()) == {"one": cursor}
    ann = lab.connect("ann", "a")
    lab.disconnect(ann, "a")
    later = kept(lab, passed(cursor, before))
    assert [fact_form(each.fact)[0] for each in later if each.fact] == [
        "online", "opened", "added", "removed", "closed", "offline",
    ]  # fmt: skip
    assert len({each.number for each in before + later}) == len(before + later)
