"""What a node waits to be told on its own channel, by another or by the script: a note carries the token of who waits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from channelstream.errors import Unavailable


class PendingReplies:
    """Who waits for which."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        """Create notes nobody waits for.

        Args:
            new_id: makes tokens.
        """
        self._new_id = new_id
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}

    @asynccontextmanager
    async def expect(self) -> AsyncIterator[tuple[str, "asyncio.Future[bytes]"]]:
        """Make a token, and a future for the note that will carry it.

        Raises:
            Unavailable: whoever waits has given up waiting (TimeoutError).
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
        """Hand a note to whoever waits for it; one that nobody waits for any more is dropped."""
        waiting = self._waiting.pop(token, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)
