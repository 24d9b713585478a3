"""The objects that are left of what has ended, as long as no garbage is collected."""

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.waiting import soon

from channelstream.core.endings import Ending
from channelstream.http.connection import HttpConnection
from channelstream.http.shared import HttpServer


@asynccontextmanager
async def passing_client(
    http_server: HttpServer, has_gone: Callable[[], bool] = lambda: True
) -> AsyncIterator[tuple[socket.socket, HttpConnection]]:
    """A client on a connection of its own, which leaves; afterwards the loop holds nothing of the connection.

    Args:
        has_gone: returns whether all has ended that the connection became.
    """
    near, far = socket.socketpair()
    with far:
        far.setblocking(False)
        transport, connection = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: HttpConnection(http_server), near
        )
        yield far, connection
    await soon(lambda: transport.is_closing() and not http_server.sockets and has_gone())
    for _ in range(10):
        await asyncio.sleep(0)


async def left_by(life: Callable[[], Awaitable[None]], rounds: int) -> dict[str, int]:
    """Return how many objects so many lives leave that end, by type; those are left out that not even half of them leave."""
    gc.collect()
    gc.disable()
    try:
        await life()
        before, objects = _census(), len(gc.get_objects())
        for _ in range(rounds):
            await life()
        print(f"{len(gc.get_objects()) - objects} objects more after {rounds} rounds")
        return {name: more for name, more in (_census() - before).items() if more >= rounds // 2}
    finally:
        gc.enable()


def _census() -> Counter[str]:
    """Count the objects that are alive, by type; without endings, of which a node keeps the last ones on purpose."""
    return Counter(
        f"{type(thing).__module__}.{type(thing).__qualname__}"
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith(("channelstream", "uvloop", "_asyncio"))
        and not isinstance(thing, Ending)
    )
