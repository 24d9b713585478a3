"""What an idle stream holds: nothing of the work that has brought it there."""

import asyncio
import gc

from tests.transports.in_process import Stage, play
from tests.waiting import soon

from channelstream.core.connection import ConnectionState
from channelstream.transports.websocket import WebSocketStream


def test_a_live_stream_holds_no_finished_task() -> None:
    """Neither after it has caught up, nor after it was too slow for a while: a task takes as much as all its fields."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(
            WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)
        )

        def is_idle() -> bool:
            held = gc.get_referents(stream._attachment)
            live = stage.connection.state is ConnectionState.LIVE
            return live and not any(isinstance(each, asyncio.Task) for each in held)

        await soon(is_idle)
        stream.pause_writing()
        assert not is_idle()
        stream.resume_writing()
        await soon(is_idle)

    play(scenario)
