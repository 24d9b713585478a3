"""What an idle stream holds: nothing of the work that has brought it there."""

import asyncio
import gc

from tests.transports.in_process import Stage, play
from tests.waiting import soon

from channelstream.core.connection import ConnectionState
from channelstream.transports.websocket import WebSocketStream


def test_a_stream_with_nothing_to_read_is_live_at_once() -> None:
    """It takes neither a task nor a turn of the loop, with a position and without one."""

    async def scenario(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        states: list[ConnectionState] = []

        def open_two() -> None:
            for since in (None, ""):
                stream = WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)
                stage.transport.set_protocol(stream)
                before = asyncio.all_tasks()
                stream.open(since)
                assert asyncio.all_tasks() == before
                states.append(stage.connection.state)

        loop.call_soon(open_two)
        await soon(lambda: len(states) == 2)
        assert states == [ConnectionState.LIVE] * 2

    play(scenario)


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
