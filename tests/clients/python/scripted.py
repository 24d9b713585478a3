"""A server in a few lines for the pump, and readers of its events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

from tests.waiting import PATIENCE_S

from channelstream_client import Event, Listening, MessageEvent
from channelstream_client.protocol import StreamEnded
from channelstream_client.reach import Reach
from channelstream_client.streams import Opening, Stream

URL = "http://127.0.0.1:9"


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


def message(number: int) -> dict[str, Any]:
    return {
        "type": "message",
        "uuid": str(number),
        "channel": "news",
        "user": "ann",
        "timestamp": "2026-01-01T00:00:00",
        "message": number,
        "position": f"e-{number}",
    }


RESUMED = {"type": "resumed", "position": "e-0", "recovered": ["news"], "lost": []}


class Log:
    """A server in a few lines: streams begin behind the position that is asked for, and wait at the end.

    Attributes:
        size: how many messages there are, numbered from 1.
        acts: what the next streams do first: raise this.
        asked: the positions that streams began at.
    """

    def __init__(self, size: int = 0, *acts: StreamEnded) -> None:
        self.size = size
        self.acts = list(acts)
        self.asked: list[str] = []
        self.conn_ids: list[str] = []
        self.open = 0
        self.grown = asyncio.Condition()

    async def stream(self, opening: Opening, reach: Reach) -> AsyncIterator[str]:
        self.asked.append(opening.position)
        self.conn_ids.append(opening.conn_id)
        if self.acts:
            raise self.acts.pop(0)
        self.open += 1
        try:
            yield json.dumps([{**RESUMED, "position": opening.position or "e-0"}])
            for number in count(int(opening.position.partition("-")[2] or 0) + 1):
                async with self.grown:
                    await self.grown.wait_for(lambda number=number: self.size >= number)
                yield json.dumps([message(number)])
        finally:
            self.open -= 1

    async def poll(self, opening: Opening, reach: Reach) -> AsyncIterator[str]:
        """Answer with `resumed` and the next message, once there is one."""
        self.asked.append(opening.position)
        number = int(opening.position.partition("-")[2] or 0) + 1
        async with self.grown:
            await self.grown.wait_for(lambda: self.size >= number)
        yield json.dumps([{**RESUMED, "position": opening.position or "e-0"}, message(number)])

    async def grow(self, size: int) -> None:
        async with self.grown:
            self.size = size
            self.grown.notify_all()


def listening(*transports: Stream, **options: Any) -> Listening:
    return Listening(URL, "c", transports=transports, jitter=lambda: 0.0, **options)


async def numbers(events: Listening, up_to: int) -> list[int]:
    """Return the payloads of the next messages, up to one of them."""
    got: list[int] = []
    while not got or got[-1] != up_to:
        event: Event = await anext(events)
        if isinstance(event, MessageEvent):
            got.append(event.message)
    return got


async def until(condition: Callable[[], bool]) -> None:
    """Run the loop until a condition holds."""
    while not condition():
        await asyncio.sleep(0)
