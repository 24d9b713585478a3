"""Calls are made one after the other, again until they are accepted or given up, in virtual time."""

import asyncio
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelOccupied, ClientEvent, Fact
from channelstream.integrations.webhooks import lane
from channelstream.integrations.webhooks.calling import Attempts, Figures, LaneParts, NotAccepted
from channelstream.integrations.webhooks.lane import Lane
from channelstream.integrations.webhooks.schedule import PUSHER, STANDARD
from channelstream.service import Kept

STANDARD_RECEIVER = Receiver("default", "https://a.example/hooks?secret=1", frozenset(), (b"x" * 24,))
PUSHER_RECEIVER = Receiver(
    "default",
    "https://a.example",
    frozenset(),
    pusher=PusherApp("1", "k", PusherSecrets("s")),
    batching=False,
)


class World:
    """Virtual time, and a receiver that fails until a moment.

    Attributes:
        calls: when each call was made, its headers and its body.
        becomes_gone_at_s: from when on a call that fails is answered with 410.
        statuses: the answers to the next calls.
    """

    def __init__(
        self, receiver: Receiver, fails_until_s: float = 0.0, status: int = 503, wait_s: float = 0.0
    ) -> None:
        self.now_s = 0.0
        self.calls: list[tuple[float, dict[str, str], bytes]] = []
        self.given_up: list[tuple[tuple[Fact, ...], str]] = []
        self.done: list[int] = []
        self.becomes_gone_at_s = math.inf
        self.statuses: list[int] = []
        self.figures = Figures()
        self._fails_until_s = fails_until_s
        self._status, self._wait_s = status, wait_s
        parts = LaneParts(
            receiver, self.post, self.figures, lambda: 1e9 + self.now_s, lambda: self.now_s, self.sleep, self.give_up
        )  # fmt: skip
        self.lane = Lane(parts, lambda kept: self.done.append(kept.number))

    async def post(self, headers: dict[str, str], body: bytes) -> None:
        self.calls.append((self.now_s, headers, body))
        if self.statuses and (next_status := self.statuses.pop(0)) != 200:
            raise NotAccepted(f"status {next_status}", next_status)
        if self.now_s < self._fails_until_s:
            status = self._status if self.now_s < self.becomes_gone_at_s else 410
            raise NotAccepted(f"status {status}", status, self._wait_s)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)

    async def give_up(self, facts: tuple[Fact, ...], reason: str) -> None:
        self.given_up.append((facts, reason))

    def run(self, *facts: Fact, each_s: float = 0.0) -> None:
        """Send facts, until all are done.

        Args:
            each_s: the time between two of them.
        """

        async def life() -> None:
            running = asyncio.get_running_loop().create_task(self.lane.run())
            for number, fact in enumerate(facts):
                await self.lane.put(Kept(0, number, fact), fact)
                while each_s and len(self.done) <= number:
                    await asyncio.sleep(0)
                self.now_s += each_s
            while len(self.done) < len(facts):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(life())

    @property
    def at_s(self) -> list[float]:
        return [at_s for at_s, _, _ in self.calls]


def occupied(number: int) -> Fact:
    return ChannelOccupied(id=f"i{number}", at_ms=number, channel=f"c{number}")


def test_facts_that_wait_are_one_call() -> None:
    """At most a hundred, or so many bytes."""
    world = World(STANDARD_RECEIVER)
    world.run(*map(occupied, range(150)))
    assert [body.count(b'"id"') for _, _, body in world.calls] == [100, 50]
    assert world.done == list(range(150))
    big: list[Fact] = [
        ClientEvent(id=f"i{n}", at_ms=1, channel="a", event="e", data="x" * 70_000) for n in range(5)
    ]
    world = World(STANDARD_RECEIVER)
    world.run(*big)
    assert [body.count(b'"id"') for _, _, body in world.calls] == [2, 2, 1]


def test_without_batching_each_fact_is_a_call() -> None:
    """In order, at once."""
    world = World(PUSHER_RECEIVER)
    world.run(*map(occupied, range(5)))
    assert [body.count(b'"name"') for _, _, body in world.calls] == [1] * 5
    assert world.done == list(range(5))
    assert set(world.at_s) == {0.0}


def test_a_receiver_that_fails_for_ten_minutes_misses_nothing() -> None:
    """Standard Webhooks: the same call again, after waits that double up to ten minutes; later facts wait for it."""
    world = World(STANDARD_RECEIVER, fails_until_s=600.0)
    world.run(*map(occupied, range(250)))
    failed = [each for each in world.calls if each[0] < 600]
    waits = [after - before for before, after in zip(world.at_s, world.at_s[1:], strict=False)]
    assert waits[: len(failed)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert len({(body, headers["webhook-id"]) for _, headers, body in world.calls[: len(failed) + 1]}) == 1
    assert len({headers["webhook-timestamp"] for _, headers, _ in failed}) == len(failed)
    assert world.done == list(range(250))
    assert world.given_up == []
    figures = world.figures
    assert (figures.sent, figures.failed, figures.failing_since_s) == (250, len(failed), 0.0)
    assert (figures.error, figures.accepted_s > figures.error_s) == ("status 503", True)


def test_pusher_gives_up_after_five_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """And sends what came behind it. The log says so."""
    world = World(PUSHER_RECEIVER, fails_until_s=400.0)
    world.run(occupied(1), occupied(2))
    assert world.at_s[:9] == [0, 1, 3, 7, 15, 31, 63, 127, 191]
    [(facts, reason)] = world.given_up
    assert (facts, reason) == ((occupied(1),), "status 503")
    assert f"events for {PUSHER_RECEIVER.label} are given up: 1, status 503" in caplog.text
    assert world.done == [0, 1]
    assert (world.figures.sent, world.figures.given_up, world.figures.failing_since_s) == (1, 1, 0.0)


def test_a_day_passes_before_standard_webhooks_give_up() -> None:
    """An attempt is made every ten minutes at least."""
    world = World(STANDARD_RECEIVER, fails_until_s=1e9)
    world.run(occupied(1))
    waits = [after - before for before, after in zip(world.at_s, world.at_s[1:], strict=False)]
    assert round(max(waits), 6) == STANDARD.longest_s == 600
    assert STANDARD.give_up_s - 600 < world.at_s[-1] <= STANDARD.give_up_s == 86_400
    assert len(world.given_up) == 1
    assert (world.figures.failing_since_s, world.figures.error_s) == (
        1e9 + world.at_s[0],
        1e9 + world.at_s[-1],
    )
    assert PUSHER.wait_s(100_000, 0.0) == PUSHER.longest_s


def test_a_receiver_that_is_gone_is_sent_nothing_again(caplog: pytest.LogCaptureFixture) -> None:
    """It says so with 410; each call is given up, and the log has one line of them all. Pusher repeats any."""
    world = World(STANDARD_RECEIVER, fails_until_s=0.5, status=410)
    world.run(*map(occupied, range(250)))
    assert [reason for _, reason in world.given_up] == [
        "status 410",
        "status 410",
        "not called after status 410",
    ]
    assert (len(world.calls), world.figures.given_up, world.done) == (2, 250, list(range(250)))
    assert [record.getMessage() for record in caplog.records] == [
        "webhooks: https://a.example/hooks does not take a call: status 410, so its events are given up"
    ]
    world = World(PUSHER_RECEIVER, fails_until_s=2.0, status=410)
    world.run(occupied(1))
    assert (world.at_s, world.given_up) == ([0, 1, 3], [])


def test_a_receiver_that_is_gone_is_called_seldom() -> None:
    """After waits that double up to ten minutes; what happens meanwhile is given up, and once it is back it is sent all."""
    world = World(replace(STANDARD_RECEIVER, batching=False), fails_until_s=2000.0, status=410)
    world.run(*map(occupied, range(3000)), each_s=1.0)
    calls = [round(at_s) for at_s in world.at_s if at_s < 2000]
    assert [after - before for before, after in pairwise(calls)] == [
        1,
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        256,
        512,
        600,
    ]
    [back] = [after for before, after in pairwise(world.at_s) if before < 2000 <= after]
    assert round(back) == calls[-1] + 600
    assert (world.figures.given_up, world.figures.sent) == (round(back), 3000 - round(back))
    assert len(world.done) == 3000


def test_one_answer_that_a_receiver_is_gone_gives_up_one_call() -> None:
    """Another one may be accepted: then the next such answer is the first again."""
    world = World(replace(STANDARD_RECEIVER, batching=False))
    world.statuses = [410, 200] * 20
    world.run(*map(occupied, range(40)))
    assert (len(world.calls), world.figures.given_up, world.figures.sent) == (40, 20, 20)


def test_a_receiver_that_accepts_a_call_is_not_gone() -> None:
    """Also one that was made before the last answer with 410, as when not all of its servers have stopped."""
    world = World(STANDARD_RECEIVER)
    parts, is_answered = world.lane._parts, asyncio.Event()

    async def post_slowly(headers: dict[str, str], body: bytes) -> None:
        await is_answered.wait()

    async def life() -> None:
        slow = Attempts(replace(parts, post=post_slowly), [occupied(0)])
        accepted = asyncio.get_running_loop().create_task(slow.make())
        await asyncio.sleep(0)
        world.statuses = [410, 410]
        await Attempts(parts, [occupied(1)]).make()
        await Attempts(parts, [occupied(2)]).make()
        is_answered.set()
        await accepted
        await Attempts(parts, [occupied(3)]).make()

    asyncio.run(life())
    assert [facts[0].id for facts, _ in world.given_up] == ["i1", "i2"]
    assert (len(world.calls), world.figures.sent) == (3, 2)


def test_the_log_says_that_a_failing_receiver_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Events are lost from then on, which is more than that they are late."""
    world = World(STANDARD_RECEIVER, fails_until_s=20.0)
    world.becomes_gone_at_s = 2.0
    world.run(*map(occupied, range(250)))
    label = STANDARD_RECEIVER.label
    assert [record.getMessage() for record in caplog.records] == [
        f"webhooks: {label} does not take a call: status 503",
        f"webhooks: {label} does not take a call: status 410, so its events are given up",
    ]


@pytest.mark.parametrize(
    ("receiver", "wait_s", "waits"),
    [
        (STANDARD_RECEIVER, 5.0, [5, 5, 5, 8, 16, 32]),
        (STANDARD_RECEIVER, 9e9, [600]),
        (PUSHER_RECEIVER, 9e9, [64]),
    ],
)
def test_a_receiver_may_ask_for_a_longer_wait(receiver: Receiver, wait_s: float, waits: list[float]) -> None:
    """But for none beyond the longest of the schedule."""
    world = World(receiver, fails_until_s=60.0, wait_s=wait_s)
    world.run(occupied(1))
    assert [round(after - before) for before, after in pairwise(world.at_s)] == waits


def test_a_full_lane_holds_its_reader_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read that has no place."""
    monkeypatch.setattr(lane, "QUEUE", 3)

    async def life() -> None:
        world = World(PUSHER_RECEIVER)
        for number in range(3):
            await world.lane.put(Kept(0, number, occupied(number)), occupied(number))
        more: asyncio.Task[Any] = asyncio.get_running_loop().create_task(
            world.lane.put(Kept(0, 3, occupied(3)), occupied(3))
        )
        for _ in range(5):
            await asyncio.sleep(0)
        assert not more.done()
        running = asyncio.get_running_loop().create_task(world.lane.run())
        await more
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(life())


def test_the_log_names_a_further_application(caplog: pytest.LogCaptureFixture) -> None:
    """It may have the same receivers as others, with secrets of its own."""
    World(replace(STANDARD_RECEIVER, app_id="shop"), fails_until_s=2.0).run(occupied(1))
    assert [record.getMessage() for record in caplog.records] == [
        "webhooks: https://a.example/hooks of application shop does not take a call: status 503",
        "webhooks: https://a.example/hooks of application shop has accepted a call again",
    ]


def test_the_log_has_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins to fail, one when it is accepted again; no query of the URL."""
    world = World(STANDARD_RECEIVER, fails_until_s=20.0)
    world.run(occupied(1))
    assert [record.getMessage() for record in caplog.records] == [
        "webhooks: https://a.example/hooks does not take a call: status 503",
        "webhooks: https://a.example/hooks has accepted a call again",
    ]
