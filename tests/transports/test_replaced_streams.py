"""A stream that is replaced while it waits does not move its successor."""

import asyncio

from tests.simulation.loop import turns
from tests.transports.test_races import Scene, finished, play

from channelstream.transports.longpoll import PollStream


def test_a_replaced_stream_does_not_move_the_start_of_its_successor() -> None:
    """It does not change where the stream that took over begins."""

    async def scenario(scene: Scene) -> list[str]:
        old = str(await scene.node.head())
        await scene.publish("a", "received")
        assert await scene.uuids(scene.open(None)) == ["received"]
        newer: list[PollStream] = []

        async def meanwhile() -> None:
            newer.append(scene.open(None))

        scene.engine.before["head"].append(meanwhile)
        older = scene.open(old)
        await finished(older)
        await asyncio.sleep(0)
        await scene.publish("a", "new")
        return await scene.uuids(newer[0])

    assert play(scenario) == ["new"]


def test_a_replaced_stream_that_skips_a_loss_does_not_move_its_successor_back() -> None:
    """The successor is sent its own position, and everything after it."""

    async def scenario(scene: Scene) -> None:
        old = str(scene.node.position)
        await scene.node.subscribe("c1", {"short": {"log_events": 1}})
        await scene.publish("a", "one")
        await scene.publish("short", "trimmed", "not replayed")
        await scene.publish("a", "two")
        head = str(scene.node.position)
        newer: list[PollStream] = []

        async def meanwhile() -> None:
            newer.append(scene.open(head))
            await turns(2)  # It has found where it begins, and waits for the engine.

        # The first read finds the loss, the second the next event; the third is the successor's.
        scene.engine.before["replay"].extend([lambda: asyncio.sleep(0), meanwhile, lambda: turns(9)])
        scene.open(old)
        await turns(20)
        await scene.publish("a", "three")
        resumed, *items = await scene.answer(newer[0])
        assert resumed["position"] == head
        assert [item["uuid"] for item in items] == ["three"]

    play(scenario)


def test_a_replaced_stream_that_waits_for_its_node_does_not_move_its_successor_back() -> None:
    """Its node has received less than its client, who opens a stream again meanwhile."""

    async def scenario(scene: Scene) -> None:
        hub, newer = scene.node.hub, list[PollStream]()
        await scene.publish("a", "one")
        old = str(scene.node.position)
        await scene.publish("a", "two")
        head, received = str(scene.node.position), hub.offsets

        async def fall_behind() -> None:
            hub.offsets = (0,)

        async def meanwhile() -> None:
            newer.append(scene.open(old))
            await turns(3)  # It has found where it begins, and waits for the engine.

        async def receive() -> None:
            await turns(9)
            hub.offsets = received

        scene.engine.after["head"].append(fall_behind)
        scene.engine.before["catch_up"].append(meanwhile)
        scene.engine.before["replay"].append(receive)
        scene.open(head)
        await turns(30)
        assert hub.offsets == received
        resumed, *_ = await scene.answer(newer[0])
        assert resumed["position"] == old

    play(scenario)
