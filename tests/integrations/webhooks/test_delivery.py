"""What each receiver is sent of the facts in the outbox."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.engines.conformance.outbox import missed
from tests.integrations.webhooks.sending import ONE, OTHER, World, occupied

from channelstream.apps.keys import DEFAULT
from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelVacated, Repeated, encode
from channelstream.integrations.webhooks import delivery


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
