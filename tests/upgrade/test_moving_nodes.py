"""What another node of the service may do with a node that moves to another process."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.redis_server import RedisServer
from tests.upgrade.stage import Stage, of, play, serving, texts
from tests.waiting import soon

from channelstream.errors import Unavailable
from channelstream.server import Server


def received(server: Server) -> int:
    """Return how many commands of other nodes a server has that are not answered."""
    engine: Any = server.node._engine
    return sum(len(shard.subscriber._answers) for shard in engine._shards)


@pytest.mark.parametrize(
    ("move", "left"), [(Stage.upgrade, True), (Stage.fail_late, False)], ids=["committed", "thawed"]
)
def test_a_command_waits_for_the_end_of_the_move(
    redis: RedisServer, move: Callable[[Stage], Any], left: bool
) -> None:
    """The old process may still go on, and would not know what the new one has done."""
    redis.cli("FLUSHALL")

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a", "b")
        await wire.items()
        async with serving(engine=redis.address) as other:
            asked = list[asyncio.Task[Any]]()

            async def unsubscribe(new: Server) -> None:
                asked.append(asyncio.create_task(other.server.node.unsubscribe(of("ann"), ["a"])))
                await soon(lambda: received(new) or asked[0].done())

            stage.when_prepared = unsubscribe
            await move(stage)
            if left:
                assert (await asked[0]).changed == ["a"]
            else:
                with pytest.raises(Unavailable, match="No answer came"):
                    await asked[0]
            await other.publish("of a", channel="a")
            await other.publish("of b", channel="b")
            expected = ["of b"] if left else ["of a", "of b"]
            assert await texts(wire, len(expected)) == expected

    play(scenario, engine=redis.address)
