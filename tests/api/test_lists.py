"""Long lists of a body: read in chunks with the same result, and with other tasks in between."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.turns import turns_of_others

from channelstream.api import schemas
from channelstream.api.field_by_field import MAX_FAULTS
from channelstream.api.lists import read_one_or_many
from channelstream.api.validation import decode_one_or_many
from channelstream.api.walker import Walker
from channelstream.errors import Invalid, Malformed
from channelstream.slices import TURN_S, Slices

ITEMS = st.lists(
    st.fixed_dictionaries(
        {"user": st.text(max_size=3), "channel": st.just("news")},
        optional={
            "message": st.recursive(
                st.sampled_from(['},{"', '"}, {', "\\", "[", 7, None]) | st.text(max_size=4),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
                ),
            ),
            "no_history": st.sampled_from([True, "true", 3]),
        },
    ),
    max_size=12,
)
BROKEN = (b"[%b", b"[%b,]", b"[%b}", b"[%b] x", b"[%b,1]", b'[%b,{"user": "x"]', b"[%b\xff]", b"[{%b]")


def clock(step_s: float) -> Callable[[], float]:
    """A clock that moves by so much at each read."""
    now_s = 0.0

    def look() -> float:
        nonlocal now_s
        now_s += step_s
        return now_s

    return look


def read(body: bytes, most: int = 1_000_000, piece_bytes: int = 8_192) -> Any:
    return asyncio.run(
        read_one_or_many(body, schemas.MessageBody, most, Slices(clock(0)), Walker(), piece_bytes)
    )


def outcome(reading: Callable[[bytes], Any], body: bytes) -> Any:
    """Return the items, or the error with its faults by field."""
    try:
        return reading(body)
    except Malformed:
        return "malformed"
    except Invalid as error:
        return error.faults


@pytest.mark.slow
@settings(max_examples=150)
@given(items=ITEMS, indent=st.sampled_from([None, 1]), piece_bytes=st.integers(0, 60))
def test_chunks_are_read_as_the_whole(items: list[Any], indent: int | None, piece_bytes: int) -> None:
    """For every size of the chunks: the same items, or the same faults at the same indexes."""
    body = json.dumps(items, indent=indent).encode()
    whole = outcome(lambda text: asyncio.run(decode_one_or_many(text, schemas.MessageBody, Walker())), body)
    assert outcome(lambda text: read(text, piece_bytes=piece_bytes), body) == whole


@pytest.mark.slow
@settings(max_examples=60)
@given(items=ITEMS, form=st.sampled_from(BROKEN), piece_bytes=st.integers(0, 60))
def test_a_broken_value_is_refused(items: list[Any], form: bytes, piece_bytes: int) -> None:
    """After any items: chunks accept no list that is invalid as a whole."""
    body = form % json.dumps(items).encode()[1:-1]
    try:
        asyncio.run(decode_one_or_many(body, schemas.MessageBody, Walker()))
    except (Malformed, Invalid):
        with pytest.raises((Malformed, Invalid)):
            read(body, piece_bytes=piece_bytes)


def test_too_many_items_are_refused() -> None:
    """At the bound they pass; beyond it the list is not read on."""
    item = b'{"user":"x","channel":"c"}'
    for piece_bytes in (0, 10_000):
        assert len(read(b"[%b]" % b",".join([item] * 9), 9, piece_bytes)[0]) == 9
        with pytest.raises(Invalid, match="maximum length 9"):
            read(b"[%b]" % b",".join([item] * 10), 9, piece_bytes)


def test_faults_of_chunks_are_bounded() -> None:
    """The first hundred are reported."""
    faults = outcome(lambda text: read(text, piece_bytes=0), json.dumps([{"user": ""}] * 300).encode())
    assert list(faults) == [str(number) for number in range(MAX_FAULTS)]


def test_other_tasks_run_while_a_list_is_read() -> None:
    """After every chunk that takes a whole time slice by the clock."""
    body = json.dumps([{"user": "x", "channel": "c"}] * 3_000).encode()

    async def reading(step_s: float) -> int:
        turns = Slices(clock(step_s))
        work = read_one_or_many(body, schemas.MessageBody, 5_000, turns, Walker())
        return (await turns_of_others(work))[1]

    assert asyncio.run(reading(TURN_S)) >= len(body) // 10_000
    assert asyncio.run(reading(0)) == 0


def test_each_and_drop_yield_between_chunks() -> None:
    """All is done, in order, and other tasks run in between."""

    async def scenario() -> tuple[int, list[int], list[int]]:
        turns, numbers, done = Slices(clock(TURN_S)), list(range(1_000)), []

        async def work() -> None:
            done.extend(await turns.each(numbers, lambda number: -number))
            await turns.drop(numbers)

        _, had = await turns_of_others(work())
        return had, done, numbers

    had, done, left = asyncio.run(scenario())
    assert had > 10
    assert (done, left) == ([-number for number in range(1_000)], [])
