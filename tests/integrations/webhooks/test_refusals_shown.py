"""What people see of the facts that a receiver refuses alone: the list of an admin, and the log."""

import asyncio

import pytest
from tests.integrations.webhooks.test_lane import PUSHER_RECEIVER, STANDARD_RECEIVER
from tests.integrations.webhooks.test_refused import Picky, of, sent

from channelstream.integrations.webhooks.refused import (
    MOST_BEHIND,
    MOST_IN_A_ROW,
    MOST_SHOWN,
    OTHER_S,
    Refusal,
    RefusalSummary,
    all_refusals,
)
from channelstream.service import Kept


def test_a_refused_fact_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried, and although others are accepted meanwhile."""
    world = Picky(STANDARD_RECEIVER, lambda name: name == "c.3" and world.now_s < 500)
    world.run(*of("abcde", 50))
    label = STANDARD_RECEIVER.label
    assert [record.getMessage() for record in caplog.records] == [
        f"webhooks: {label} refuses event c.3 (client.event), which is tried again by itself: status 400",
        f"webhooks: {label} has accepted a call again",
    ]
    assert (world.figures.sent, world.figures.failed) == (250, len(world.refused))
    assert world.figures.error == "status 400"


def test_it_is_shown_and_logged_that_others_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Once, however long it lasts; what is refused is listed, the oldest first."""
    seen: list[RefusalSummary] = []

    def refuses(name: str) -> bool:
        if world.now_s < 60 and name.endswith(".0") and name[0] in "abcdefgh":
            if world.now_s < OTHER_S:  # Then one of the others is sent.
                seen.append(world.lane.refusals)
            return True
        return False

    world = Picky(PUSHER_RECEIVER, refuses)
    world.run(*of("abcdefghi", 3))
    assert (seen[0], seen[1].count, seen[1].is_held_up) == (RefusalSummary(), 1, False)
    last = seen[-1]
    assert (last.count, last.is_held_up) == (MOST_IN_A_ROW, True)
    assert [(each.fact.id, each.reason) for each in last.shown] == [
        (f"{name}.0", "status 400") for name in "abcdefgh"
    ]
    assert {each.since_s for each in last.shown} == {1e9}
    waits = f"webhooks: others wait for what {PUSHER_RECEIVER.label} refuses ({MOST_IN_A_ROW}): mend it, or give these up"
    assert [record.getMessage().startswith(waits) for record in caplog.records].count(True) == 1


def test_where_all_facts_are_refused_none_waits(caplog: pytest.LogCaptureFixture) -> None:
    """However many they are: that the receiver is sent no others holds nothing up."""
    seen: list[RefusalSummary] = []

    def refuses(_name: str) -> bool:
        seen.append(world.lane.refusals)
        return world.now_s < 10

    world = Picky(PUSHER_RECEIVER, refuses)
    world.run(*of("abcdefgh", 1))
    assert max(each.count for each in seen) == MOST_IN_A_ROW
    assert not any(each.is_held_up for each in seen)
    assert not any("others wait" in record.getMessage() for record in caplog.records)


def test_it_is_not_logged_again_that_others_wait_while_many_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One of eight is accepted, so that eight more are refused."""
    until_s = dict.fromkeys("bcdefghijklmnop", 9.0) | {"a": 2.0}
    world = Picky(PUSHER_RECEIVER, lambda name: world.now_s < until_s.get(name[0], 0.0))
    world.run(*of("abcdefghijklmnopqrstuvwxyz", 1))
    assert sum("others wait" in record.getMessage() for record in caplog.records) == 1


def test_it_is_logged_again_that_others_wait_when_that_had_ended(caplog: pytest.LogCaptureFixture) -> None:
    until_s = 0.0
    world = Picky(PUSHER_RECEIVER, lambda name: name[0] != "z" and world.now_s < until_s)

    async def life() -> None:
        nonlocal until_s
        running = asyncio.create_task(world.lane.run())
        for number in range(3):
            until_s = world.now_s + 9
            for channel in "abcdefghz":
                await world.lane.put(Kept(0, number, sent(channel, number)), sent(channel, number))
            while len(world.done) < 9 * (number + 1):
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(life())
    assert sum("others wait" in record.getMessage() for record in caplog.records) == 3


def test_a_refused_fact_is_shown_with_its_last_reason() -> None:
    seen: list[str] = []

    def refuses(_name: str) -> bool:
        seen.extend(each.reason for each in world.lane.refusals.shown)
        world.status = 422 if seen else 400
        return world.now_s < 10

    world = Picky(PUSHER_RECEIVER, refuses)
    world.run(sent("a", 0))
    assert (seen[0], seen[-1]) == ("status 400", "status 422")


def test_it_is_shown_and_logged_that_others_wait_for_what_is_behind_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is room for so many only; until then the others are not held up."""
    seen: list[RefusalSummary] = []

    def refuses(name: str) -> bool:
        seen.append(world.lane.refusals)
        return name == "a.0" and world.now_s < 30

    world = Picky(STANDARD_RECEIVER, refuses)
    world.run(*(sent("a", number) for number in range(MOST_BEHIND + 300)), sent("b", 0))
    alone = [
        (each.count, each.is_held_up) for each in seen if each.shown and each.shown[0].behind >= MOST_BEHIND
    ]
    assert set(alone) == {(1, True)}
    assert not any(each.is_held_up for each in seen if each.shown and each.shown[0].behind < MOST_BEHIND)
    assert min(at_s for at_s, name in world.accepted if name[0] == "b") > 30
    assert sum("others wait" in record.getMessage() for record in caplog.records) == 1


def test_only_the_oldest_refused_facts_of_all_lanes_are_shown() -> None:
    each = [
        RefusalSummary(
            40, number == 1, tuple(Refusal(sent("a", at), 10.0 * at + number, "", 0) for at in range(40))
        )
        for number in range(2)
    ]
    found = all_refusals(each)
    assert (found.count, found.is_held_up, len(found.shown)) == (80, True, MOST_SHOWN)
    assert [refusal.since_s for refusal in found.shown[:4]] == [0, 1, 10, 11]
    assert all_refusals([]) == RefusalSummary()
