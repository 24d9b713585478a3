"""Concurrent calls and streams of one connection: in every order each call is executed, and one stream stays.

Across three nodes the connection is handed from one to the other meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.e2e.wire import Ended, Items, Wire, open_wire
from tests.fleet import Fleet
from tests.http_client import async_client

pytestmark = pytest.mark.nodes(1, 3)

ROUNDS = 20
"""Of each race among nodes; where one forgets another, some of them end otherwise."""
ROUNDS_ALONE = 5
"""Of each race in one process, where `tests/transports/test_races.py` plays them step by step."""
DEADLINE_S = 120.0
REPLACED = frozenset({409, 4002})
GONE = REPLACED | {401, 1000, 4001}
Play = Callable[["Page"], Awaitable[None]]


class Page:
    """A connection in a channel of its own, with calls and streams at any node.

    Attributes:
        channel: also the name of the user.
    """

    def __init__(self, server: Any, http: httpx.AsyncClient) -> None:
        self.channel = uuid4().hex
        self.conn_id = str(uuid4())
        self.server = server
        self._http = http
        self._wires: list[Wire] = []

    async def call(self, path: str, **body: Any) -> Any:
        """Make a call that must succeed, about this connection."""
        body = {"conn_id": self.conn_id} | body
        answer = await self._http.post(self.server.url + path, json=body, headers=self.server.sign(path))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def connect(self, *channels: str, **more: Any) -> Any:
        return await self.call("/connect", username=self.channel, channels=channels, **more)

    async def say(self, channel: str) -> None:
        await self.call("/message", user="app", channel=channel, message={"in": channel})

    async def open(self, transport: str = "ws", ends: frozenset[int] = REPLACED) -> Wire | None:
        """Open a stream and return it once it is live; None where it has ended already, for one of these reasons."""
        wire = await open_wire(transport, self.server.port)
        self._wires.append(wire)
        try:
            await wire.ask(self.conn_id, "")
            [resumed] = await next_items(wire)
        except Ended as end:
            assert end.code in ends, end
            return None
        assert resumed["lost"] == []
        return wire

    async def totals(self) -> set[int]:
        """How many connections the nodes count in the channel, whichever is asked."""
        body = {"info": {"channels": [self.channel], "include_connections": True}}
        nodes = getattr(self.server, "nodes", [self.server])
        answers = [node.post("/info", body)["channels"][self.channel] for node in nodes]
        return {max(one["total_connections"], len(one["connections"])) for one in answers}

    async def close(self) -> None:
        for wire in self._wires:
            await wire.close()


async def next_items(wire: Wire) -> Items:
    """Read until a list has items.

    Raises:
        Ended: the server ended the stream.
    """
    while not (items := await wire.items()):
        pass
    if items[-1]["type"] == "closing":
        raise Ended(items[-1]["code"])
    return items


async def received(wire: Wire, last: str) -> list[str]:
    """The channels of all messages up to the first one in the last channel."""
    found: list[str] = []
    while last not in found:
        found += [item["message"]["in"] for item in await next_items(wire) if item["type"] == "message"]
    return found


def race(server: Any, play: Play) -> None:
    """Play a race several times, each time with another connection."""

    async def rounds() -> None:
        async with asyncio.timeout(DEADLINE_S), async_client() as http:
            for _ in range(ROUNDS if isinstance(server, Fleet) else ROUNDS_ALONE):
                page = Page(server, http)
                try:
                    await play(page)
                finally:
                    await page.close()

    asyncio.run(rounds())


def test_two_connects_at_once_give_the_channels_of_both(server: Any) -> None:
    """Both calls are answered, and the connection has the channels of both."""

    async def play(page: Page) -> None:
        names = [page.channel, f"{page.channel}-2"]
        await asyncio.gather(*(page.connect(name) for name in names))
        assert (await page.connect())["channels"] == names
        assert await page.totals() == {1}

    race(server, play)


@pytest.mark.parametrize("path", ["/subscribe", "/connect"])
def test_a_subscribe_during_a_handover_takes_effect(server: Any, path: str) -> None:
    """The call is answered, and the stream that stays receives old and new channels."""

    async def play(page: Page) -> None:
        new = f"{page.channel}-2"
        more = {"username": page.channel, "user_state": {"a": 1}} if path == "/connect" else {}
        await page.connect(page.channel)
        await page.open()
        newer, _ = await asyncio.gather(page.open(), page.call(path, channels=[new], **more))
        assert newer is not None
        await page.say(page.channel)
        await page.say(new)
        assert await received(newer, new) == [page.channel, new]

    race(server, play)


def test_an_unsubscribe_during_a_handover_takes_effect(server: Any) -> None:
    """The call is answered, and the stream that stays no longer receives the old channel."""

    async def play(page: Page) -> None:
        old = f"{page.channel}-2"
        await page.connect(page.channel, old)
        await page.open()
        newer, _ = await asyncio.gather(page.open(), page.call("/unsubscribe", channels=[old]))
        assert newer is not None
        await page.say(old)
        await page.say(page.channel)
        assert await received(newer, page.channel) == [page.channel]

    race(server, play)


def test_a_disconnect_during_a_handover_ends_the_connection(server: Any) -> None:
    """When `/disconnect` has answered, no node knows the connection."""

    async def play(page: Page) -> None:
        await page.connect(page.channel)
        await page.open()
        stream, was_there = await asyncio.gather(page.open(ends=GONE), page.call("/disconnect"))
        assert was_there is True
        assert await page.totals() == {0}
        if stream is not None:
            with pytest.raises(Ended):
                await next_items(stream)

    race(server, play)


@pytest.mark.parametrize("transports", [("ws", "ws"), ("sse", "sse"), ("ws", "sse")])
def test_of_two_streams_at_once_one_stays(server: Any, transports: tuple[str, str]) -> None:
    """One of them stays, and receives all events; the other ends as replaced."""

    async def play(page: Page) -> None:
        await page.connect(page.channel)
        streams = await asyncio.gather(*map(page.open, transports))
        await page.say(page.channel)
        ends = await asyncio.gather(
            *(received(stream, page.channel) for stream in streams if stream), return_exceptions=True
        )
        stayed = [end for end in ends if not isinstance(end, Ended)]
        assert stayed == [[page.channel]], ends
        assert all(end.code == 4002 for end in ends if isinstance(end, Ended))

    race(server, play)
