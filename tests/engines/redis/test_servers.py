"""Which server is the master of a shard."""

import asyncio

import pytest

from channelstream.engines.redis.servers import has_given_away


def test_a_question_that_is_cancelled_at_once_leaves_no_coroutine() -> None:
    """The link is lost again while its master is looked for; Python would warn of what was never awaited."""

    async def scene() -> None:
        asking = asyncio.create_task(has_given_away([("127.0.0.1", 1)], 0, {}, "a run id"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(scene())
