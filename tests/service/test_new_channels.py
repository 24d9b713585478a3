"""The channels that the clients of a user bring into being."""

import asyncio
from collections.abc import Sequence
from typing import Any

from channelstream.errors import TooManyRequests
from channelstream.service.new_channels import OF_USER, NewChannels


class Scene:
    """Counted channels, the names that the engine knows, and a clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.known: set[str] = set()
        self.asked = 0
        self.counted = NewChannels(self._unknown, lambda: self.now_s)

    async def _unknown(self, names: Sequence[str]) -> set[str]:
        self.asked += 1
        return set(names) - self.known

    async def is_refused(self, user: str, *names: str) -> bool:
        try:
            await self.counted.check(user, names)
        except TooManyRequests:
            return True
        return False


def play(scenario: Any) -> None:
    asyncio.run(scenario(Scene()))


def test_a_user_brings_so_many_channels_into_being_and_then_some_a_second() -> None:
    """Whatever the connections of the user are; another one has a measure of its own."""

    async def scenario(scene: Scene) -> None:
        assert not await scene.is_refused("ann", *map(str, range(OF_USER.at_once)))
        assert await scene.is_refused("ann", "a", "b")
        assert not await scene.is_refused("bob", "a", "b")
        scene.now_s += 2 / OF_USER.per_s
        assert not await scene.is_refused("ann", "a", "b")
        assert await scene.is_refused("ann", "c")
        assert scene.counted.refused == 3

    play(scenario)


def test_channels_that_are_known_are_free() -> None:
    """The engine is asked only about what would be refused."""

    async def scenario(scene: Scene) -> None:
        await scene.counted.check("ann", list(map(str, range(OF_USER.at_once))))
        assert scene.asked == 0
        scene.known = {"a", "b"}
        assert not await scene.is_refused("ann", "a", "b")
        assert await scene.is_refused("ann", "a", "c")
        assert not await scene.is_refused("ann")

    play(scenario)
