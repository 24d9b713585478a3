"""Holds back the answers of publishers while streams cannot be written to as fast as they publish.

A caller that announces a user to members, as by `/connect`, is a publisher here.

A publisher that is answered publishes again. Events that come while a flush is under way wait for the next one, which
takes longer the more they are, and so gathers more of them still: without a bound each event waits longer than the one
before it. So while a flush is under way, and `core.rounds.MANY_EVENTS` wait already for the next one, a publisher is
answered when that one begins. What it has published is accepted already, and in the log.
"""

import asyncio

from channelstream.core.hub import Hub


async def next_round(hub: Hub) -> None:
    """Return when the next round of the flush begins, which `Rounds.is_behind` says is due."""
    begun = asyncio.get_running_loop().create_future()

    def answer() -> None:
        if not begun.done():  # It was cancelled: its caller has gone.
            begun.set_result(None)

    hub.rounds.when_begun.append(answer)
    await begun


def answer_all(hub: Hub) -> None:
    """Answer the publishers that are held back now."""
    hub.rounds.call_waiting()
