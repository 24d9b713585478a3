"""The replies that a node waits for on its own channel, from another node or from the script.

Each caller makes a token that nobody had before, and the reply carries it. So a reply to a caller that has given up is
dropped, and is never taken for the reply to a later one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from channelstream.errors import Unavailable


class PendingReplies:
    """The callers that wait, by token."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        """Create one with no callers.

        Args:
            new_id: makes tokens.
        """
        self._new_id = new_id
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}

    @asynccontextmanager
    async def expect(self) -> AsyncIterator[tuple[str, "asyncio.Future[bytes]"]]:
        """Make a token, and the future of the reply that will carry it.

        Raises:
            Unavailable: the caller's wait has timed out (TimeoutError in the block).
        """
        token = self._new_id()
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token.encode()] = reply
        try:
            yield token, reply
        except TimeoutError:
            raise Unavailable("No answer came in time; try again later.") from None
        finally:
            self._waiting.pop(token.encode(), None)

    def resolve(self, token: bytes, reply: bytes) -> None:
        """Pass a reply to the caller that waits for it; drop it if none does."""
        waiting = self._waiting.pop(token, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)
