"""A connection between two nodes: for how long calls about it are repeated."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from channelstream.engines.cluster import OwnerSilent
from channelstream.errors import Moved, Replaced
from channelstream.service import handover
from channelstream.service.commands import Answer, Unsubscribe, encode
from channelstream.service.handover import RETRY_DELAYS_S, Handover
from channelstream.service.locks import Locks

UNSUBSCRIBE = Unsubscribe("c", ["a"])


class Elsewhere:
    """A cluster of which another node owns the connection, and does not hold it yet.

    Attributes:
        is_held: whether that node holds it now.
        is_receiving: whether that node receives anything.
        answers: what it has answered.
        asked: how often it was asked.
        on_claim: called while a claim is under way.
    """

    is_single = False

    def __init__(self) -> None:
        self.is_held = False
        self.is_receiving = True
        self.asked = 0
        self.answers: list[Answer] = []
        self.on_claim: Callable[[str], None] = lambda conn_id: None

    async def ask(self, conn_id: str, command: bytes) -> bytes:
        self.asked += 1
        if not self.is_receiving:
            raise OwnerSilent("no link")
        self.answers.append(Answer(found=self.is_held, channels=["b"] if self.is_held else []))
        return encode(self.answers[-1])

    async def claim(self, conn_id: str, orphan: bool, request_release: Any) -> None:
        await request_release()
        self.on_claim(conn_id)

    def arrive(self) -> None:
        self.is_held = self.is_receiving = True

    def asking(self) -> Handover:
        """Return the handover of a node that does not hold the connection."""
        local: Any = SimpleNamespace(get=lambda conn_id: None, find=lambda conn_id: None, locks=Locks())
        executing: Any = None
        cluster: Any = self
        return Handover(cluster, local, executing)


@pytest.mark.parametrize("opens", [False, True], ids=["command", "stream"])
def test_a_connection_between_two_nodes_is_asked_for_until_it_arrives(opens: bool) -> None:
    """Between two attempts others have the loop, and time passes: its claim takes some."""

    async def life() -> None:
        cluster = Elsewhere()
        asyncio.get_running_loop().call_later(RETRY_DELAYS_S[-3], cluster.arrive)
        if opens:
            assert await cluster.asking().take_over("c") is None
        else:
            assert await cluster.asking().dispatch(UNSUBSCRIBE) == Answer(found=True, channels=["b"])
        assert [answer.found for answer in cluster.answers[-2:]] == [False, True]

    asyncio.run(life())


def test_a_command_about_a_connection_that_never_arrives_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller is answered that it may try again."""
    monkeypatch.setattr(handover, "RETRY_DELAYS_S", (0.0,) * 3)

    async def life() -> None:
        cluster = Elsewhere()
        with pytest.raises(Moved):
            await cluster.asking().dispatch(UNSUBSCRIBE)
        assert len(cluster.answers) == 4

    asyncio.run(life())


def test_a_stream_waits_for_an_owner_that_hands_over_to_a_new_process() -> None:
    """Only the owner knows what the client was sent: without its answer it would be sent that again."""

    async def life() -> None:
        cluster = Elsewhere()
        cluster.is_receiving = False
        asyncio.get_running_loop().call_later(RETRY_DELAYS_S[-3], cluster.arrive)
        assert await cluster.asking().take_over("c") is None
        assert cluster.answers == [Answer(found=True, channels=["b"])]

    asyncio.run(life())


def test_an_owner_that_has_died_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then streams of its connections open at once, until an owner answers again. A command has no wait of its own."""
    monkeypatch.setattr(handover, "RETRY_DELAYS_S", (0.0,) * 3)

    async def life() -> None:
        cluster = Elsewhere()
        cluster.is_receiving = False
        asking, counts = cluster.asking(), []
        for _ in range(2):
            await asking.take_over("c")
            counts.append(cluster.asked)
        cluster.is_held = cluster.is_receiving = True
        await asking.take_over("c")
        cluster.is_receiving = False
        await asking.take_over("c")
        counts.append(cluster.asked)
        assert await asking.dispatch(UNSUBSCRIBE) is None
        counts.append(cluster.asked)
        assert counts == [4, 5, 5 + 1 + 4, 10 + 1]

    asyncio.run(life())


def test_a_claim_that_another_one_has_overtaken_holds_nothing() -> None:
    """Its stream is closed, so that the connection never has two. The notice counts for this claim only."""

    async def life() -> None:
        cluster = Elsewhere()
        cluster.arrive()
        asking = cluster.asking()
        cluster.on_claim = asking.taken_over
        with pytest.raises(Replaced):
            await asking.take_over("c")
        asking.taken_over("c")
        cluster.on_claim = lambda conn_id: None
        assert await asking.take_over("c") is None

    asyncio.run(life())


def test_a_command_whose_connection_ends_while_it_waits_finds_none() -> None:
    """The node that has sent it looks for the connection again."""

    async def life() -> None:
        here, locks = {"c": object()}, Locks()
        local: Any = SimpleNamespace(get=here.get, locks=locks)
        nothing: Any = None
        asked = Handover(nothing, local, nothing)
        async with locks.of("c"):
            executing = asyncio.create_task(asked.execute(UNSUBSCRIBE))
            await asyncio.sleep(0)
            del here["c"]
        assert await executing == Answer(found=False)

    asyncio.run(life())
