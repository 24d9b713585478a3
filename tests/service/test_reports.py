"""The facts that a node makes itself, on their way to the outbox."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engines.conformance.lab import ALL_FACTS, ALL_KINDS, MovedClock, message

from channelstream.apps.keys import DEFAULT, make_key
from channelstream.apps.wanted_facts import NOTHING_WANTED, AppFacts, WantedFacts
from channelstream.core.facts import CacheMissed, ClientEvent, Fact, MessageAccepted
from channelstream.errors import Unavailable
from channelstream.service import reports
from channelstream.service.reports import Reports


class Outbox:
    """Keeps what is appended; raises the given errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.kept: list[Fact] = []
        self.calls = 0
        self._errors = list(errors)

    async def append(self, facts: Sequence[Fact]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self._errors:
            raise self._errors.pop(0)
        self.kept += facts


def make(outbox: Outbox, wanted: Any = ALL_FACTS.wanted) -> Reports:
    return Reports(outbox, wanted, lambda: "id", MovedClock())  # type: ignore[arg-type]


AT_MS = 1_700_000_000_000


def test_what_clients_do_is_kept() -> None:
    """In order, in the background; private messages are not reported, nor edits."""

    async def life() -> None:
        outbox = Outbox()
        made = make(outbox)
        made.client_event("a", "client-x", "{}", "1.2", "ann")
        made.cache_missed("a")
        made.accepted(message("m1", "a"))
        made.accepted(message("m2", None, only=frozenset(("ann",))))
        assert outbox.kept == []
        await made.settle(60.0)
        assert outbox.kept == [
            ClientEvent(
                id="id", at_ms=AT_MS, channel="a", event="client-x", data="{}", socket="1.2", user="ann"
            ),
            CacheMissed(id="id", at_ms=AT_MS, channel="a"),
            MessageAccepted(id="id", at_ms=AT_MS, channel="a", uuid="m1", user="ann"),
        ]
        assert outbox.calls == 1

    asyncio.run(life())


def test_what_is_not_wanted_is_not_kept() -> None:
    async def life() -> None:
        outbox = Outbox()
        made = make(outbox, NOTHING_WANTED)
        made.client_event("a", "client-x", "{}", None)
        made.cache_missed("a")
        made.accepted(message("m1", "a"))
        await made.settle(60.0)
        assert (outbox.calls, made.is_used) == (0, False)

    asyncio.run(life())


def test_an_engine_out_of_reach_gets_them_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come meanwhile behind them; a bug about some loses only these."""
    monkeypatch.setattr(reports, "RETRY_S", 0.0)
    monkeypatch.setattr(reports, "AT_ONCE", 2)

    async def life() -> None:
        outbox = Outbox(Unavailable("x"), Unavailable("x"), RuntimeError("a bug"))
        made = make(outbox)
        for name in "abcde":
            made.cache_missed(name)
        await made.settle(60.0)
        assert [fact.place for fact in outbox.kept] == ["c", "d", "e"]
        made.cache_missed("f")
        await made.settle(60.0)
        assert outbox.kept[-1].place == "f"

    asyncio.run(life())


def test_only_so_much_data_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was appended counts no more."""
    monkeypatch.setattr(reports, "MOST_CHARACTERS", 100)

    async def life() -> None:
        outbox = Outbox()
        made = make(outbox)
        for round_number in (1, 2):
            for _ in range(5):
                made.client_event("a", "client-x", "x" * 40, None)
            made.cache_missed("a")
            assert made.dropped == 3 * round_number
            await made.settle(60.0)
            assert len(outbox.kept) == 3 * round_number

    asyncio.run(life())


def test_applications_wait_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has very many drops its own only."""
    monkeypatch.setattr(reports, "MOST_WAITING", 3)
    monkeypatch.setattr(reports, "MOST_CHARACTERS", 100)

    async def life() -> None:
        outbox, shop = Outbox(), make_key("shop", "a")
        made = make(outbox, WantedFacts(dict.fromkeys((DEFAULT, "shop"), AppFacts(ALL_KINDS))))
        for _ in range(5):
            made.cache_missed(shop)
        made.client_event("a", "client-x", "x" * 200, None)
        made.cache_missed("b")
        made.cache_missed(make_key("shop", "b"))
        assert made.dropped == 4
        await made.settle(60.0)
        assert [fact.place for fact in outbox.kept] == [shop, shop, shop, "a"]
        made.cache_missed("b")
        made.cache_missed(shop)
        await made.settle(60.0)
        assert [fact.place for fact in outbox.kept[4:]] == ["b", shop]

    asyncio.run(life())


@pytest.mark.parametrize("bound", ["TOTAL_WAITING", "TOTAL_CHARACTERS"])
def test_only_so_many_of_all_applications_wait(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Beyond that, one may have no more than an equal share: so one that has little drops nothing."""
    size = 1 if bound == "TOTAL_WAITING" else 10
    monkeypatch.setattr(reports, bound, 40 * size)
    apps = [f"app{number}" for number in range(10)]

    async def life() -> None:
        outbox = Outbox()
        made = make(outbox, WantedFacts(dict.fromkeys(apps, AppFacts(ALL_KINDS))))

        def send(app_id: str, count: int) -> int:
            before = made.dropped
            for _ in range(count):
                made.client_event(make_key(app_id, "a"), "client-x", "x" * 10, None)
            return count - (made.dropped - before)

        assert [send(apps[0], 60), send(apps[1], 3), send(apps[1], 3)] == [40, 3, 1]
        assert [send(app_id, 60) for app_id in apps[2:]] == [4] * 8
        await made.settle(60.0)
        assert len(outbox.kept) == 40 + 9 * 4
        assert send(apps[1], 60) == 40

    asyncio.run(life())


def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Further ones are dropped and counted; a node that stops does not wait for ever, and one that goes on appends them."""
    monkeypatch.setattr(reports, "MOST_WAITING", 3)
    monkeypatch.setattr(reports, "RETRY_S", 0.0)

    async def life() -> None:
        outbox = Outbox(*[Unavailable("x")] * 9)
        made = make(outbox)
        for name in "abcde":
            made.cache_missed(name)
        assert made.dropped == 2
        await made.settle(0.0)
        await made.settle(60.0)
        assert [fact.place for fact in outbox.kept] == ["a", "b", "c"]
        await made.close(0.0)
        assert "lost" not in caplog.text
        outbox = Outbox(*[Unavailable("x")] * 999)
        made = make(outbox)
        made.cache_missed("a")
        await made.close(0.0)
        assert "webhooks: events of the last moment are lost: 1" in caplog.text

    asyncio.run(life())


def test_closing_waits_until_the_append_has_ended() -> None:
    """The engine closes after that: nothing uses it then."""
    steps: list[str] = []

    class Slow(Outbox):
        async def append(self, facts: Sequence[Fact]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                steps.append("append")

    async def life() -> None:
        made = make(Slow())
        made.cache_missed("a")
        await asyncio.sleep(0)
        await made.close(0.0)
        steps.append("close")

    asyncio.run(life())
    assert steps == ["append", "close"]
