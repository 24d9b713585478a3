"""Facts that were given up are kept, and can be sent again."""

import asyncio
from typing import Any

import pytest
from tests.engines.conformance.lab import MovedClock

from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelOccupied, ClientEvent, Fact
from channelstream.engines.time_series import RECORD_BYTES, LocalTimeSeries
from channelstream.errors import Unavailable
from channelstream.integrations.webhooks.dead_letters import DATA_BYTES, KEPT_S, DeadLetters
from channelstream.service import Record, TimeSeries

RECEIVER = Receiver("default", "https://a.example/?secret=1", frozenset())
OCCUPIED = ChannelOccupied(id="i", at_ms=1, channel="a")


def event(data: str) -> ClientEvent:
    return ClientEvent(
        id="e", at_ms=1, channel="a" * 256, event="x" * 200, data=data, socket="1.2", user="u" * 256
    )


def made(series: Any = None) -> tuple[DeadLetters, MovedClock]:
    clock = MovedClock()
    return DeadLetters(series or LocalTimeSeries(), clock.wall), clock


def test_what_was_given_up_is_kept_for_a_week() -> None:
    """With its receiver and the reason, oldest first; another application has its own."""

    async def life() -> None:
        letters, clock = made()
        await letters.add(RECEIVER, (OCCUPIED, event("{}")), "status 503")
        clock.passed_s += 60
        await letters.add(Receiver("shop", "https://b.example", frozenset()), (OCCUPIED,), "status 404")
        found = await letters.read("default")
        assert [(each.receiver, each.reason, each.fact, each.is_whole) for each in found] == [
            (RECEIVER.name, "status 503", OCCUPIED, True), (RECEIVER.name, "status 503", event("{}"), True),
        ]  # fmt: skip
        assert [each.reason for each in await letters.read("shop")] == ["status 404"]
        clock.passed_s += KEPT_S
        assert await letters.read("default") == []

    asyncio.run(life())


@pytest.mark.parametrize(
    ("data", "is_whole"), [("x" * DATA_BYTES, True), ("ä" * (DATA_BYTES // 2 + 1), False)]
)
def test_a_long_event_is_kept_without_its_data(data: str, is_whole: bool) -> None:
    """A record of an engine has no room for it."""

    class Checked(LocalTimeSeries):
        async def append(self, series: str, record: Record, keep_s: float) -> None:
            assert len(record.data) <= RECORD_BYTES
            await super().append(series, record, keep_s)

    async def life() -> None:
        letters, _ = made(Checked())
        await letters.add(RECEIVER, (event(data),), "no answer within 10 s")
        [letter] = await letters.read("default")
        assert (letter.is_whole, letter.fact) == (is_whole, event(data if is_whole else ""))

    asyncio.run(life())


def test_an_engine_out_of_reach_loses_them(caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many: sending goes on."""

    class Gone:
        async def append(self, series: str, record: Record, keep_s: float) -> None:
            raise Unavailable("x")

    facts: tuple[Fact, ...] = (OCCUPIED, OCCUPIED)
    asyncio.run(made(Gone())[0].add(RECEIVER, facts, "status 503"))
    assert "events that were given up are not kept: 2" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\x94\xa1a\xa1b\xc4\x06\x91\xa3new\xc3"])
def test_what_another_version_has_written_is_left_out(data: bytes) -> None:
    async def life() -> None:
        series: TimeSeries = LocalTimeSeries()
        letters, clock = made(series)
        await series.append("webhooks given up of default", Record(clock.wall(), data), KEPT_S)
        assert await letters.read("default") == []

    asyncio.run(life())
