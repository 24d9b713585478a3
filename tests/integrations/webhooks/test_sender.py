"""The node that holds the lease sends, from where each receiver is."""

import asyncio
from typing import Any

import pytest
from tests.engines.conformance.outbox import missed
from tests.integrations.webhooks.sending import ONE, OTHER, World, occupied

from channelstream.apps.keys import DEFAULT
from channelstream.engines.local_outbox import DROPPED
from channelstream.engines.outbox import OutboxSettings
from channelstream.integrations.webhooks import ahead, delivery, sender


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
