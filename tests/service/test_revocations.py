"""Revocations of one node and of several; `tests/transports/test_token_nodes.py` has those over real nodes."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.waiting import soon

from channelstream import slices
from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.clock import SystemClock
from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.config.app_section import AppSection
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.engines.cluster import SingleNode
from channelstream.engines.time_series import SERIES_RECORDS, LocalTimeSeries, Record
from channelstream.errors import Unavailable
from channelstream.server import build
from channelstream.service import revocations
from channelstream.service.remote_calls import RemoteCall, RemoteCalls
from channelstream.service.revocations import Revocations
from channelstream.wire.commanding import COMMANDING
from channelstream.wire.protocols import PROTOCOLS

ANN = Client(App(), "ann", 2000.0, token_id="t-1", issued_s=1000.0)


class Clock(SystemClock):
    """A clock that a test moves."""

    now_s = 1000.0

    def wall(self) -> float:
        return self.now_s


class Node:
    """The revocations of a node, and the connections that it has ended."""

    def __init__(self, series: LocalTimeSeries, clock: Clock, is_single: bool = False) -> None:
        self.hub = Hub(PROTOCOLS.formats, lambda: None)
        self.ended: list[tuple[str, int]] = []
        self.calls = RemoteCalls(SingleNode())
        self.revocations = Revocations(self.calls, series, self.hub, clock, self._end, is_single=is_single)

    def _end(self, connection: Connection, code: CloseCode, reason: str) -> None:
        self.ended.append((connection.id, code))

    def open(self, conn_id: str, client: Client | None) -> None:
        """Hold a connection whose stream was opened by a client."""
        connection = Connection(conn_id, "ann", COMMANDING, (0,), None)
        stream: Any = SimpleNamespace(client=client)
        connection.stream = stream
        self.hub.add(connection)


def test_a_node_that_was_out_of_reach_reads_what_was_revoked() -> None:
    """And ends the connections that it is about, once."""

    async def scenario() -> None:
        series, clock = LocalTimeSeries(), Clock()
        here, there = Node(series, clock), Node(series, clock)
        await there.revocations.load()
        there.open("c1", ANN)
        there.open("c2", None)
        clock.now_s += 10
        assert await here.revocations.revoke("ann", 60, is_user=True) == 0
        assert not there.revocations.has(ANN)
        for _ in range(2):
            await there.revocations.catch_up()
        assert there.revocations.has(ANN)
        assert there.ended == [("c1", CloseCode.TOKEN_EXPIRED)]

    asyncio.run(scenario())


@pytest.mark.parametrize("is_single", [False, True])
def test_a_node_without_clients_that_have_tokens_reads_nothing(is_single: bool) -> None:
    """Nor does one that shares its engine with nobody: all of its revocations are its own."""

    async def scenario() -> None:
        series, clock = LocalTimeSeries(), Clock()
        other, node = Node(series, clock), Node(series, clock, is_single)
        if is_single:
            await node.revocations.load()
        await other.revocations.revoke("ann", 60, is_user=True)
        await node.revocations.catch_up()
        assert not node.revocations.has(ANN)

    asyncio.run(scenario())


def test_a_stream_that_moves_here_with_a_revoked_token_ends_at_once() -> None:
    """Not after the streams behind it, which may take seconds; and all are looked at once more after these."""

    async def scenario() -> None:
        node = Node(LocalTimeSeries(), Clock(), is_single=True)
        await node.revocations.revoke("ann", 60, is_user=True)
        node.open("c1", ANN)
        node.revocations.moved_here(node.hub.connections["c1"])
        assert node.ended == [("c1", CloseCode.TOKEN_EXPIRED)]
        for _ in range(2):
            await node.revocations.catch_up()
        assert len(node.ended) == 2

    asyncio.run(scenario())


class LossySeries(LocalTimeSeries):
    """Loses everything when a test says so, and is out of reach then."""

    is_reachable = True

    def lose(self) -> None:
        self._series.clear()
        self.is_reachable = False

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        if not self.is_reachable:
            raise Unavailable("out of reach")
        await super().append(series, record, keep_s)


def test_a_node_writes_again_what_the_engine_has_lost() -> None:
    """Also what another one has sent it, which may have died: once, and nothing whose tokens have expired."""

    async def scenario() -> None:
        series, clock = LossySeries(), Clock()
        here, there = Node(series, clock), Node(series, clock)
        await here.revocations.revoke("bob", 5, is_user=True)
        await here.revocations.revoke("ann", 60, is_user=True)
        written = [record.data for record in await series.read(revocations.SERIES.format(""), 0.0)]
        for each in written:
            await there.calls.execute(RemoteCall(revocations.PROCEDURE, each))
        series.lose()
        clock.now_s += 10
        there.revocations.log_replaced()
        with pytest.raises(Unavailable):
            await there.revocations.catch_up()
        series.is_reachable = True
        for _ in range(2):
            await there.revocations.catch_up()
            again = [record.data for record in await series.read(revocations.SERIES.format(""), 0.0)]
            assert again == written[1:]
            there.revocations.log_replaced()
        third = Node(series, clock)
        await third.revocations.load()
        assert third.revocations.has(ANN)

    asyncio.run(scenario())


def test_very_many_are_read_and_written_again_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the engine lacks none of them."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def turns(work: Awaitable[object]) -> int:
        count, done = 0, asyncio.ensure_future(work)
        while not done.done():
            count += 1
            await asyncio.sleep(0)
        await done
        return count

    async def scenario() -> None:
        series, clock = LocalTimeSeries(), Clock()
        here, there = Node(series, clock).revocations, Node(series, clock).revocations
        for number in range(4 * slices.STEP):
            await here.revoke(f"t-{number}", 60, is_user=False)
        assert await turns(there.load()) > 4
        here.log_replaced()
        assert await turns(here._write_again()) > 8
        assert len(await series.read(revocations.SERIES.format(""), 0.0)) == 4 * slices.STEP

    asyncio.run(scenario())


class SlowSeries(LocalTimeSeries):
    """Answers when a test lets it, and counts how often it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.may_answer = asyncio.Event()

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        self.reads += 1
        await self.may_answer.wait()
        if self.reads == 1:
            raise Unavailable("out of reach")
        return await super().read(series, since_s, limit)


def test_a_read_that_fails_when_all_who_asked_have_gone_is_not_logged() -> None:
    """As when the engine is out of reach, and the clients that came with tokens are closed meanwhile."""

    async def scenario() -> list[object]:
        logged: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        series = SlowSeries()
        node = Node(series, Clock()).revocations
        gone = asyncio.create_task(node.load())
        await soon(lambda: series.reads == 1)
        gone.cancel()
        await asyncio.wait([gone])
        series.may_answer.set()
        await soon(lambda: len(asyncio.all_tasks()) == 1)
        return logged

    assert asyncio.run(scenario()) == []


def test_all_tokens_of_a_moment_share_one_read() -> None:
    """Its failure as well, after which the next token begins another one."""

    async def scenario() -> None:
        series = SlowSeries()
        node = Node(series, Clock()).revocations
        for number in (1, 2):
            loads = [asyncio.create_task(node.load()) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            series.may_answer.set()
            results = await asyncio.gather(*loads, return_exceptions=True)
            assert {type(each) for each in results} == {Unavailable if number == 1 else type(None)}
            assert series.reads == number
            series.may_answer.clear()
        await node.load()
        assert series.reads == 2

    asyncio.run(scenario())


def test_a_revocation_is_forgotten_when_its_tokens_have_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there are many; as long as there are too many that count, no further one is taken, at a new node either."""
    monkeypatch.setattr(revocations, "MAX_REVOCATIONS", 2)

    async def scenario() -> None:
        clock, series = Clock(), LocalTimeSeries()
        node = Node(series, clock).revocations
        await node.revoke("ann", 60, is_user=True)
        await node.revoke("t-2", 90, is_user=False)
        for each in (node, Node(series, clock).revocations):
            with pytest.raises(Unavailable, match="too many"):
                await each.revoke("bob", 60, is_user=True)
        clock.now_s += 61
        await node.revoke("bob", 60, is_user=True)
        assert not node.has(ANN)

    asyncio.run(scenario())


def test_calls_at_once_forget_what_has_expired_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many count afterwards as are known: each has its place."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    monkeypatch.setattr(revocations, "MAX_REVOCATIONS", most := 2 * slices.STEP)

    async def scenario() -> None:
        clock = Clock()
        node = Node(LocalTimeSeries(), clock).revocations
        for number in range(most):
            await node.revoke(f"t-{number}", 600 if number < slices.STEP else 60, is_user=False)
        clock.now_s += 61
        await asyncio.gather(*(node.revoke(user, 60, is_user=True) for user in ("ann", "bob")))
        for number in range(slices.STEP - 2):
            await node.revoke(f"u-{number}", 60, is_user=False)
        with pytest.raises(Unavailable, match="too many"):
            await node.revoke("carl", 60, is_user=True)

    asyncio.run(scenario())


def test_a_token_that_was_issued_later_counts() -> None:
    """One that does not say when it was issued does not."""

    async def scenario() -> None:
        clock = Clock()
        node = Node(LocalTimeSeries(), clock).revocations
        await node.revoke("ann", 60, is_user=True)
        clock.now_s -= 5
        await node.revoke("ann", 60, is_user=True)
        times = {None: True, 999.0: True, 1000.0: True, 1000.5: False}
        assert {each: node.has(Client(App(), "ann", 2000.0, issued_s=each)) for each in times} == times
        assert not node.has(Client(App("shop"), "ann", 2000.0))
        await node.revoke("t-1", 60, is_user=False)
        assert node.has(Client(App(), "bob", 2000.0, token_id="t-1", issued_s=3000.0))

    asyncio.run(scenario())


def test_an_application_with_short_tokens_drops_no_revocations_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is written drops what is too old, which depends on the tokens of its application."""
    times_s = [1000.0]
    monkeypatch.setattr(SystemClock, "wall", lambda _: times_s[0])
    shop = AppSection("shop", {"secret": "of the shop", "token_max_age_s": 1.0})

    async def scenario() -> None:
        server = build(Settings(secret="x", admin_secret="y", token_max_age_s=3600.0, apps=(shop,)))
        services, node = server.streams.services, server.node
        await node.start()
        await services.default.revoke("ann", is_user=True)
        times_s[0] += 1000
        await services.of_conn_id("shop.c").revoke("bob", is_user=True)
        assert await node.time_series.read(revocations.SERIES.format("default"), 0.0)
        await node.close()

    asyncio.run(scenario())


def test_an_application_with_many_revocations_leaves_others_their_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused a further one, and they are not."""
    monkeypatch.setattr(revocations, "MAX_REVOCATIONS", 4)
    shop = AppSection("shop", {"secret": "of the shop"})

    async def scenario() -> None:
        server = build(Settings(secret="x", admin_secret="y", apps=(shop,)))
        services, node = server.streams.services, server.node
        await node.start()
        noisy, quiet = services.default, services.of_conn_id("shop.c")
        for number in range(2):
            await noisy.revoke(f"t-{number}", is_user=False)
        with pytest.raises(Unavailable, match="too many"):
            await noisy.revoke("t-2", is_user=False)
        await quiet.revoke("t-2", is_user=False)
        await node.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_single", [False, True])
def test_another_process_is_given_what_the_engine_may_lose(is_single: bool) -> None:
    """It writes that again, and only that; an engine of one process moves with all it has."""

    async def scenario() -> None:
        clock, kept, lost = Clock(), LocalTimeSeries(), LocalTimeSeries()
        here = Node(kept, clock, is_single)
        await here.revocations.revoke("ann", 60, is_user=True)
        moved = here.revocations.moved()
        assert len(moved) == (not is_single)
        for series in (kept, lost):
            there = Node(series, clock, is_single)
            there.revocations.restore(moved)
            assert there.revocations.has(ANN) == (not is_single)
            await there.revocations.catch_up()
        counts = [len(await each.read(revocations.SERIES.format(""), 0.0, 9)) for each in (kept, lost)]
        assert counts == [1, len(moved)]

    asyncio.run(scenario())
