"""Work that is spread over turns of the loop."""

import asyncio

import pytest
from tests.turns import turns_of_others

from channelstream import slices
from channelstream.slices import MANY, SET_STEP, Slices, TurnQueue, turn_for


def test_a_turn_queue_does_a_few_pieces_in_each_turn_in_order() -> None:
    """The first at once; later ones wait in order, also of another kind of call."""

    async def life() -> None:
        queue, done = TurnQueue(2), list[int]()
        for number in range(4):
            queue.run(lambda number=number: done.append(number))
        queue.put(lambda: done.append(4))
        assert not queue.has_room()
        counts = [len(done)]
        for _ in range(3):
            await asyncio.sleep(0)
            counts.append(len(done))
        assert (done, counts) == ([0, 1, 2, 3, 4], [2, 4, 5, 5])
        assert queue.has_room()

    asyncio.run(life())


def test_a_piece_that_fails_does_not_hold_up_the_others() -> None:
    async def life() -> None:
        queue, done, failures = TurnQueue(2), list[int](), list[object]()
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context["exception"])
        )
        queue.put(lambda: done.append(1 // 0))
        queue.put(lambda: done.append(2))
        queue.put(lambda: done.append(3))
        for _ in range(3):
            await asyncio.sleep(0)
        assert (done, [type(each) for each in failures]) == ([2, 3], [ZeroDivisionError])

    asyncio.run(life())


@pytest.mark.parametrize(("items", "expected"), [(MANY - 1, ["work", "other"]), (MANY, ["other", "work"])])
def test_work_on_many_items_begins_a_turn(items: int, expected: list[str]) -> None:
    """What is ready runs before it; work on a few items goes on at once."""

    async def life() -> None:
        done: list[str] = []
        asyncio.get_running_loop().call_soon(done.append, "other")
        await turn_for(items)
        done.append("work")
        await asyncio.sleep(0)
        assert done == expected

    asyncio.run(life())


@pytest.mark.parametrize(("count", "turns"), [(0, 2), (SET_STEP, 3), (3 * SET_STEP + 1, 6)])
def test_a_set_of_very_many_is_made_in_slices(
    monkeypatch: pytest.MonkeyPatch, count: int, turns: int
) -> None:
    """The copy of all has a turn of its own."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    names = [str(number) for number in range(count)]

    async def make() -> frozenset[str]:
        return await Slices(lambda: 0.0).set_of(iter(names))

    made, seen = asyncio.run(turns_of_others(make()))
    assert (made, seen) == (frozenset(names), turns)
