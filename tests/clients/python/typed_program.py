"""A program of an application, which a type checker must accept as it stands; nobody runs it."""

import asyncio

from channelstream_client import AsyncChannelstream, Channelstream, Connection, Message, SentMessage


def blocking(server: Channelstream) -> None:
    connection: Connection = server.connect("ann", ["news"])
    sent: list[SentMessage] = server.publish_many([Message(user="ann", channel="news", message={"n": 1})])
    assert server.disconnect(connection.conn_id) is bool(sent)


async def in_tasks(server: AsyncChannelstream) -> list[str]:
    """A call is a coroutine: it may become a task, be gathered, be waited for, be run."""
    task: asyncio.Task[Connection] = asyncio.create_task(server.connect("ann", ["news"]))
    connection = await task
    async with asyncio.TaskGroup() as group:
        group.create_task(server.subscribe(connection.conn_id, ["sport"]))
    news, ended = await asyncio.gather(server.info(), server.disconnect(connection.conn_id))
    await asyncio.wait_for(server.publish(Message(user="ann", channel="news", message=ended)), 1)
    return [channel.name for channel in news.channels.values()]


def run(server: AsyncChannelstream) -> bool:
    return asyncio.run(server.disconnect("c"))
