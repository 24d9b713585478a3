"""Very many channels of one user, and what the tests of them look at."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.engines.conformance import Recorder

from channelstream.core.events import Presence
from channelstream.engines.memory import MemoryEngine
from channelstream.engines.sqlite import SqliteEngine

LOUD = {f"c{number}": {"notify_presence": True} for number in range(20)}
InProcess = MemoryEngine | SqliteEngine
Life = Callable[[InProcess, Recorder], Awaitable[None]]


def members(engine: InProcess) -> int:
    """Return in how many channels ann is counted."""
    return sum("ann" in channel.users for channel in engine.registry.channels.values())


async def steps(engine: InProcess, work: Coroutine[Any, Any, Any]) -> list[int]:
    """Return in how many channels ann is after each turn of the loop."""
    task, found = asyncio.create_task(work), [members(engine)]
    while not task.done():
        await asyncio.sleep(0)
        found.append(members(engine))
    await task
    return found


def announced(recorder: Recorder) -> list[tuple[str | None, bool]]:
    events = (entry.event for entry in recorder.entries)
    return [(event.channel, event.joined) for event in events if isinstance(event, Presence)]


def parted(recorder: Recorder) -> list[tuple[str | None, str]]:
    singles = (single.event for entry in recorder.entries for single in entry.split())
    return sorted(
        (event.channel, event.user) for event in singles if isinstance(event, Presence) and not event.joined
    )
