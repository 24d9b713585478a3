"""Whether the loop reads a connection: its handler may pause that, and so may a process that takes sockets over."""

import asyncio
import socket
from itertools import product

from channelstream.http.inbound import Inbound

ACTS = ("pause", "resume", "hold", "let_go")


def test_a_connection_is_read_unless_it_is_paused_or_held() -> None:
    """Neither ends the other, in whatever order and however often they are called."""

    async def life(acts: tuple[str, ...]) -> None:
        near, far = socket.socketpair()
        with far:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
            inbound, is_paused, is_held = Inbound(transport, loop), False, False
            for act in acts:
                getattr(inbound, act)()
                is_paused = act == "pause" or (is_paused and act != "resume")
                is_held = act == "hold" or (is_held and act != "let_go")
                assert transport.is_reading() is not (is_paused or is_held), acts
            transport.abort()

    async def lives() -> None:
        for acts in product(ACTS, repeat=4):
            await life(acts)

    asyncio.run(lives())
