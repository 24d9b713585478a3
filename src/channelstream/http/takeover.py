"""How the socket of a request leaves HTTP."""

import asyncio
from functools import partial
from typing import Protocol


class Detachable(Protocol):
    """A connection whose socket can be taken over."""

    @property
    def is_open(self) -> bool:
        """Whether the request is unanswered and the socket open."""

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Give up the socket; return it, and the bytes received after the request."""

    def serve(self) -> None:
        """Let the handler of the route answer the request instead."""

    def fail(self) -> None:
        """Answer with 500, or close if an answer has begun already."""


class TakeOver(partial[None]):
    """A function that takes over the socket of a request; it is called with its connection, a `Detachable`."""
