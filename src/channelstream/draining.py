"""How streams end when the server stops: each is sent its waiting events, then 1012, at once or over some time."""

import asyncio
from collections.abc import Callable
from random import shuffle

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.service import Node
from channelstream.slices import Slices


def close_stream(node: Node, connection: Connection) -> None:
    """Write the pending events of a connection's stream, then close it; nothing if it has none."""
    stream = connection.stream
    if stream is not None:
        node.hub.stop_writing(connection)
        stream.close(CloseCode.RESTARTING, "the server restarts")


async def close_streams(node: Node) -> None:
    """Close all streams now, in short loop turns."""
    slices = Slices(node.clock.steady)
    for connection in list(node.hub.connections.values()):
        close_stream(node, connection)
        await slices.due()


async def spread_streams(node: Node, spread_s: float) -> None:
    """Close all streams at even intervals, in random order, and return after `spread_s` seconds.

    So the clients come back elsewhere one after the other. In the order of their registration, those that came together
    would come together again.
    """
    time: Callable[[], float] = asyncio.get_running_loop().time
    began_s, connections = time(), list(node.hub.connections.values())
    shuffle(connections)
    for number, connection in enumerate(connections):
        await asyncio.sleep(max(0.0, began_s + spread_s * number / len(connections) - time()))
        close_stream(node, connection)
    await asyncio.sleep(max(0.0, began_s + spread_s - time()))
