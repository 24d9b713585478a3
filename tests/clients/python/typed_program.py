"""A program of an application, which a type checker must accept unchanged; it is never run."""

import asyncio
from collections.abc import Coroutine
from typing import assert_type

from channelstream_client import (
    AsyncChannelstream,
    Channelstream,
    Connection,
    Down,
    Event,
    Message,
    MessageEvent,
    Resumed,
    SentMessage,
)


def blocking(server: Channelstream) -> None:
    connection: Connection = server.connect("ann", ["news"])
    sent: list[SentMessage] = server.publish_many([Message(user="ann", channel="news", message={"n": 1})])
    assert server.disconnect(connection.conn_id) is bool(sent)


async def in_tasks(server: AsyncChannelstream) -> list[str]:
    """A call is a coroutine: it can be a task, be gathered, awaited or run."""
    task: asyncio.Task[Connection] = asyncio.create_task(server.connect("ann", ["news"]))
    connection = await task
    async with asyncio.TaskGroup() as group:
        group.create_task(server.subscribe(connection.conn_id, ["sport"]))
    news, ended = await asyncio.gather(server.info(), server.disconnect(connection.conn_id))
    assert_type(ended, bool)  # With an `Any` it would say nothing about its use.
    await asyncio.wait_for(server.publish(Message(user="ann", channel="news", message=ended)), 1)
    return [channel.name for channel in news.channels.values()]


async def follow(server: AsyncChannelstream) -> None:
    async def renew(position: str) -> Connection:
        return await server.connect("ann", ["news"], since=position)

    async def renew_id() -> str:
        return (await renew("")).conn_id

    def on_down(down: Down) -> None:
        assert down.retry_s >= 0

    connection = await renew("")
    async with server.listen(connection, renew=renew, on_down=on_down, give_up_after_s=60) as events:
        async for event in events:
            match event:
                case MessageEvent():
                    assert event.user
                case Resumed(lost=[_, *_]):
                    break
    first: Event = await anext(server.listen("c", renew=renew_id))
    assert first.position


def watch(server: Channelstream) -> None:
    def renew(position: str) -> Connection:
        return server.connect("ann", ["news"], since=position)

    with server.listen(renew(""), renew=renew, attempts=3) as events:
        for event in events:
            assert event.position
        last: Event | None = events.get(1.0)
        assert last is None


def run(server: AsyncChannelstream) -> bool:
    call: Coroutine[None, None, bool] = server.disconnect("c")
    return asyncio.run(call)
