"""The node that holds the lease sends, from where each receiver is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.engines.conformance.lab import ALL_KINDS
from tests.engines.conformance.outbox import missed

from channelstream.apps.keys import DEFAULT
from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelOccupied, ChannelVacated, Fact, Repeated, encode
from channelstream.engines.local_outbox import DROPPED, LocalOutbox
from channelstream.engines.outbox import OutboxSettings, merged
from channelstream.engines.time_series import LocalTimeSeries
from channelstream.errors import Unavailable
from channelstream.integrations.webhooks import ahead, delivery, sender
from channelstream.integrations.webhooks.ahead import SentAhead
from channelstream.integrations.webhooks.calling import Figures, LaneParts, NotAccepted
from channelstream.integrations.webhooks.delivery import Delivery, MakeDelivery
from channelstream.integrations.webhooks.sender import Sender
from channelstream.service import Cursor, CursorsOfApps

ONE = Receiver("default", "https://one.example", ALL_KINDS, (b"x" * 24,))
OTHER = Receiver("default", "https://other.example", frozenset(("occupied",)), (b"x" * 24,), batching=False)


class Outbox(LocalOutbox):
    """Its lease is what the test says.

    Attributes:
        token: None means that another node holds the lease.
        is_gone: it is out of reach.
        is_silent: it does not answer, and does not fail either.
        settles: whether the token still counts when cursors are set.
        settled: how often they were set.
    """

    def __init__(self) -> None:
        super().__init__(OutboxSettings())
        self.token: int | None = 1
        self.is_gone = False
        self.is_silent = False
        self.settles = True
        self.settled = self.released = 0

    async def hold(self, ttl_s: float) -> int | None:
        self._check()
        if self.is_silent:
            await asyncio.Event().wait()
        return self.token

    async def read(self, app_id: str, after: Cursor, limit: int) -> Any:
        self._check()
        return await super().read(app_id, after, limit)

    async def settle(self, token: int, cursors: CursorsOfApps) -> bool:
        self._check()
        self.settled += 1
        return self.settles and await super().settle(token, cursors)

    async def release(self) -> None:
        self.released += 1

    def _check(self) -> None:
        if self.is_gone:
            raise Unavailable("x")


class World:
    """A sender with two receivers, whose time passes by itself.

    Attributes:
        received: the facts of each accepted call, by URL.
        is_down: URLs that accept nothing.
        refused: facts that every receiver refuses.
    """

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.series = LocalTimeSeries()
        self.received: dict[str, list[str]] = {}
        self.is_down: set[str] = set()
        self.refused: set[str] = set()
        self.now_s = 0.0
        self.use(ONE, OTHER)

    def use(self, *receivers: Receiver) -> None:
        """Send to these receivers, as another process."""
        makers = {each.name: self._maker(each) for each in receivers}
        self.received |= {each.url: [] for each in receivers if each.url not in self.received}
        beyond = SentAhead(self.series, lambda: self.now_s)
        self.sender = Sender(self.outbox, makers, beyond, self.sleep)

    @property
    def cursors(self) -> dict[str, Cursor]:
        """How far each receiver is; empty if it does not send."""
        return merged(self.sender.cursors)

    def _maker(self, receiver: Receiver) -> MakeDelivery:
        async def post(headers: dict[str, str], body: bytes) -> None:
            await asyncio.sleep(0)
            if receiver.url in self.is_down:
                raise NotAccepted("status 503")
            found = [part.split('"')[0] for part in body.decode().split('{"id":"')[1:]]
            if not self.refused.isdisjoint(found):
                raise NotAccepted("status 400", 400)
            self.received[receiver.url] += found

        async def given_up(facts: tuple[Fact, ...], reason: str) -> None:
            """Forget them."""

        parts = LaneParts(
            receiver, post, Figures(), lambda: 1e9, lambda: self.now_s, self.sleep, given_up
        )  # fmt: skip
        return lambda begin, reached: Delivery(self.outbox, begin, reached, parts)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds / 100
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to that")

    def run(self, life: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            self.sender.start()
            self.sender.start()
            try:
                await life()
            finally:
                await self.sender.stop()
                await self.sender.stop()

        asyncio.run(whole())


@pytest.fixture
def world() -> World:
    return World()


def occupied(*names: str) -> list[Fact]:
    return [ChannelOccupied(id=f"of-{name}", at_ms=number, channel=name) for number, name in enumerate(names)]


@pytest.mark.parametrize(("kept_again_s", "is_kept_again"), [(0.0, True), (sender.KEPT_AGAIN_S, False)])
def test_cursors_are_kept_again(
    world: World, monkeypatch: pytest.MonkeyPatch, kept_again_s: float, is_kept_again: bool
) -> None:
    """Otherwise a shared engine would forget new facts with old cursors, while a receiver is down after days without any."""
    monkeypatch.setattr(sender, "KEPT_AGAIN_S", kept_again_s)

    async def life() -> None:
        await world.until(lambda: world.outbox.settled > 0)
        after_s = world.now_s + 10 * sender.STEP_S / 100
        await world.until(lambda: world.now_s > after_s)
        assert (world.outbox.settled > 1) == is_kept_again

    world.run(life)


def test_each_receiver_is_sent_what_it_wants(world: World) -> None:
    """In order for each channel; its cursor passes all, so that the outbox becomes empty."""

    async def life() -> None:
        await world.outbox.append([*occupied("a"), *missed("b"), *occupied("c")])
        await world.until(lambda: not world.outbox._facts[DEFAULT].stored)
        assert world.received[ONE.url] == ["of-a", "of-b", "of-c"]
        assert sorted(world.received[OTHER.url]) == ["of-a", "of-c"]
        assert await world.outbox.cursors() == {ONE.name: (3,), OTHER.name: (3,)}

    world.run(life)
    assert world.outbox.released == 1


def test_a_receiver_that_is_down_holds_up_only_itself(world: World) -> None:
    """Its facts stay, and a later sender goes on with them."""

    async def down() -> None:
        world.is_down = {ONE.url}
        await world.outbox.append(occupied("a", "b"))
        await world.until(lambda: sorted(world.received[OTHER.url]) == ["of-a", "of-b"])
        await world.until(lambda: world.cursors[OTHER.name] == (2,))

    world.run(down)
    assert world.received[ONE.url] == []
    assert asyncio.run(world.outbox.cursors()) == {ONE.name: (0,), OTHER.name: (2,)}

    async def up() -> None:
        world.is_down = set()
        await world.until(lambda: world.received[ONE.url] == ["of-a", "of-b"])
        assert len(world.received[OTHER.url]) == 2

    world.run(up)


@pytest.mark.parametrize("waiting", [ONE, OTHER])
def test_another_url_is_sent_what_is_kept(world: World, waiting: Receiver) -> None:
    """What waited for the URL before it, and also what that was sent, if it waits for another receiver."""

    async def before() -> None:
        world.is_down = {waiting.url}
        await world.outbox.append(occupied("a", "b"))
        [other] = {ONE, OTHER} - {waiting}
        await world.until(lambda: world.cursors.get(other.name) == (2,))

    world.run(before)
    changed = replace(ONE, url="https://changed.example")
    world.use(changed, OTHER)

    async def after() -> None:
        world.is_down = set()
        await world.until(lambda: not world.outbox._facts[DEFAULT].stored)
        assert world.received[changed.url] == ["of-a", "of-b"]
        assert sorted(world.received[OTHER.url]) == ["of-a", "of-b"]
        assert await world.outbox.cursors() == {changed.name: (2,), OTHER.name: (2,)}

    world.run(after)


def test_without_the_lease_nothing_is_sent(world: World) -> None:
    """Until it is held; when it is lost, sending ends, and goes on with what was not settled."""

    async def life() -> None:
        world.outbox.token = None
        await world.outbox.append(occupied("a"))
        before = world.now_s
        await world.until(lambda: world.now_s > before + 1)
        assert not world.sender.is_sending
        world.outbox.token = 2
        await world.until(lambda: world.received[ONE.url] == ["of-a"])
        assert world.sender.is_sending
        world.outbox.token = None
        await world.until(lambda: not world.sender.is_sending)
        assert world.sender.cursors == {}
        await world.outbox.append(occupied("b"))
        world.outbox.token = 3
        await world.until(lambda: world.received[ONE.url][-1] == "of-b")

    world.run(life)


@pytest.mark.parametrize("how", ["refused", "another token"])
def test_another_holder_meanwhile_begins_again(world: World, how: str) -> None:
    """What it has in memory counts no more: the cursors in the engine do."""

    async def life() -> None:
        await world.outbox.append(occupied("a"))
        await world.until(lambda: world.sender.is_sending)
        first = world.sender._deliveries
        if how == "refused":
            world.outbox.settles = False
            await world.outbox.append(occupied("b"))
            await world.until(lambda: not world.sender.is_sending)
            world.outbox.settles = True
        else:
            world.outbox.token = 9
        await world.until(lambda: bool(world.sender._deliveries) and world.sender._deliveries is not first)

    world.run(life)


@pytest.mark.parametrize("how", ["is_gone", "is_silent"])
def test_an_engine_out_of_reach_ends_sending_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Before another node can hold the lease; it goes on when the engine is back."""
    monkeypatch.setattr(sender, "MARGIN_S", 0.05)

    async def life() -> None:
        await world.until(lambda: world.sender.is_sending)
        setattr(world.outbox, how, True)
        await world.until(lambda: not world.sender.is_sending)
        setattr(world.outbox, how, False)
        await world.outbox.append(occupied("a"))
        await world.until(lambda: world.received[ONE.url] == ["of-a"])

    world.run(life)


def test_a_short_outage_does_not_end_sending(world: World) -> None:
    """And what could not be kept is kept afterwards."""

    async def life() -> None:
        await world.until(lambda: world.sender.is_sending)
        first = world.sender._deliveries
        world.outbox.is_gone = True
        before = world.now_s
        await world.until(lambda: world.now_s > before + 1)
        world.outbox.is_gone = False
        await world.outbox.append(occupied("a"))
        await world.until(lambda: world.received[ONE.url] == ["of-a"])
        await world.until(lambda: not world.outbox._facts[DEFAULT].stored)
        assert world.sender._deliveries is first

    world.run(life)


def test_a_bug_ends_nothing_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and sending begins again."""
    faults = iter([RuntimeError("a bug")])
    right = delivery.Settling.due

    def due(*arguments: Any) -> Any:
        for fault in faults:
            raise fault
        return right(*arguments)

    monkeypatch.setattr(delivery.Settling, "due", due)

    async def life() -> None:
        await world.outbox.append(occupied("a"))
        await world.until(lambda: "a bug" in caplog.text)
        await world.until(lambda: "of-a" in world.received[OTHER.url])

    world.run(life)


def test_a_process_that_is_replaced_keeps_the_lease(world: World) -> None:
    """The new one is the same node; how far each receiver is, is kept."""

    async def life() -> None:
        await world.outbox.append(occupied("a"))
        await world.until(lambda: world.received[OTHER.url] == ["of-a"])
        await world.sender.stop(releases=False)
        assert (world.outbox.released, world.sender.is_sending) == (0, False)
        assert (await world.outbox.cursors())[OTHER.name] == (1,)

    world.run(life)


def test_an_end_is_sent_when_it_is_sure(world: World) -> None:
    """Until then the cursor stays before it, so that another sender would decide again."""

    async def life() -> None:
        await world.outbox.append([*occupied("a"), ChannelVacated(id="end", at_ms=10, channel="a")])
        await world.until(lambda: world.received[ONE.url] == ["of-a"])
        assert world.cursors[ONE.name] <= (1,)
        await world.until(lambda: world.received[ONE.url] == ["of-a", "end"])
        await world.until(lambda: world.cursors[ONE.name] == (2,))

    world.run(life)


def test_a_repeated_fact_goes_to_its_receiver_only(world: World) -> None:
    """As it was, whatever it wants now; one of another version is left out."""

    async def life() -> None:
        [fact] = missed("a")
        for number, (receiver, data) in enumerate(
            [(OTHER.name, encode(fact)), (ONE.name, b""), ("gone", encode(fact))]
        ):
            again = Repeated(id=f"r{number}", at_ms=1, place="a", receiver=receiver, data=data)
            await world.outbox.append([again])
        await world.until(lambda: not world.outbox._facts[DEFAULT].stored)
        assert world.received == {ONE.url: [], OTHER.url: ["of-a"]}

    world.run(life)


def test_what_is_dropped_meanwhile_is_counted(world: World) -> None:
    """Not what was dropped before: a node that begins to send would raise an alarm about it again."""
    world.outbox.restore([(DROPPED, 7, b"")])
    world.outbox._settings = OutboxSettings(most_facts=10)

    async def life() -> None:
        await world.until(lambda: world.sender.is_sending)
        await world.outbox.append(missed(*(f"c{number}" for number in range(12))))
        await world.until(lambda: world.sender.dropped > 0)
        assert world.sender.dropped == 2
        world.outbox.token = None
        await world.until(lambda: not world.sender.is_sending)
        world.outbox.restore([(DROPPED, 100, b"")])
        world.outbox.token = 5
        await world.until(lambda: world.sender.is_sending)
        before = world.now_s
        await world.until(lambda: world.now_s > before + 1)
        assert world.sender.dropped == 2

    world.run(life)


def test_facts_of_others_let_other_tasks_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: other tasks run after each read."""
    monkeypatch.setattr(delivery, "READ_AT_ONCE", 10)

    async def life() -> None:
        await world.outbox.append(missed(*(f"c{number}" for number in range(100))))
        reader = OTHER.name
        await world.until(lambda: reader in world.sender._deliveries)
        passed = [world.cursors[reader][0]]
        while passed[-1] < 100:
            await asyncio.sleep(0)
            passed.append(world.cursors[reader][0])
        assert max(after - before for before, after in pairwise(passed)) <= 10

    world.run(life)


def test_only_so_many_facts_are_on_their_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest stays in the outbox."""
    monkeypatch.setattr(delivery, "MOST_OPEN", 20)
    monkeypatch.setattr(delivery, "READ_AT_ONCE", 10)

    async def life() -> None:
        world.is_down = {ONE.url, OTHER.url}
        await world.outbox.append(occupied(*(f"c{number}" for number in range(100))))
        before = world.now_s
        await world.until(lambda: world.now_s > before + 1)
        open_facts = [each.progress.open for each in world.sender._deliveries.values()]
        assert max(open_facts) <= 30
        world.is_down = set()
        await world.until(lambda: len(world.received[ONE.url]) == 100)

    world.run(life)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_what_was_sent_past_a_refused_fact_is_not_sent_again(world: World, is_stopped: bool) -> None:
    """By the next sender, whether this one was stopped, or is killed later than it last kept how far it is."""
    names = [f"c{number}" for number in range(300)]
    world.refused = {"of-c7"}

    async def life() -> None:
        await world.outbox.append(occupied(*names, "c7"))
        await world.until(lambda: len(world.received[OTHER.url]) == len(world.received[ONE.url]) == 299)
        if not is_stopped:
            after_s = world.now_s + 2 * ahead.EVERY_S
            await world.until(lambda: world.now_s > after_s)
            assert world.sender._task is not None
            world.sender._task.cancel()
            await asyncio.gather(world.sender._task, return_exceptions=True)
            await world.sender._cancel()
        await world.sender.stop()
        world.received = {ONE.url: [], OTHER.url: []}
        world.use(ONE, OTHER)
        world.sender.start()
        await world.outbox.append(occupied("new"))
        await world.until(lambda: all("of-new" in each for each in world.received.values()))
        assert world.received == {ONE.url: ["of-new"], OTHER.url: ["of-new"]}
        world.refused = set()
        await world.until(lambda: world.cursors == {ONE.name: (302,), OTHER.name: (302,)})
        assert world.received == {url: ["of-new", "of-c7", "of-c7"] for url in (ONE.url, OTHER.url)}

    world.run(life)
