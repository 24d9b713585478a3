"""The connection of a link that receives what is published.

- **Silence is found by marks.** TCP does not report a peer that is gone, and a subscription may be silent by right. A node
  publishes a mark to itself through its calls; when the mark arrives, everything published before it has arrived, too
  (`await_mark`). A silent link is given up after the timeout.
- **Nothing overtakes the catch-up.** Messages that arrive between `open` and `listen` are buffered, bounded in number and
  bytes, until the shard has delivered what it missed.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.link_state import LINK_BROKE, NOT_REDIS, UNREADABLE, LinkState
from channelstream.engines.redis.servers import send
from channelstream.engines.redis.slot_move import SLOT_MOVED
from channelstream.errors import Unavailable
from channelstream.shielded import result_of, retrieve

MAX_BUFFERED = 20_000
MAX_BUFFERED_BYTES = 64 << 20
"""Messages, and their bytes, buffered while the log is read after an outage; more break the link, and it is read again."""
DISPATCHED_AT_ONCE = 200
"""Buffered messages passed on in one turn of the event loop."""
SUBSCRIBE_AT_ONCE = 1000
"""Channels named in one SUBSCRIBE."""

logger = logging.getLogger(__name__)

OnMessage = Callable[[bytes, bytes], None]


class Subscription:
    """What a link has subscribed to, and the messages that arrive.

    Attributes:
        is_sharded: whether it subscribes to sharded publish.
    """

    def __init__(self, address: ShardAddress, on_message: OnMessage, state: LinkState) -> None:
        """Create one that is not connected.

        Args:
            on_message: called with channel (without the prefix) and data, in the order of publishing, after `listen`.
        """
        self.is_sharded = False
        self._state = state
        self._connection = address.connect()
        self._prefix = address.prefix.encode()
        self._on_message = on_message
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._last_message_s = 0.0  # When anything last arrived, by the steady clock.
        self._unsubscribing: set[bytes] = set()
        # Not among the confirmations: a channel may be subscribed to again before the end of the former subscription.
        self._endings: dict[bytes, asyncio.Future[None]] = {}
        self._buffered: deque[tuple[bytes, bytes]] | None = deque()
        self._buffered_bytes = 0

    async def connect(self) -> None:
        await self._connection.connect()  # type: ignore[no-untyped-call]

    async def disconnect(self) -> None:
        self._confirmations.clear()
        self._endings.clear()
        await self._connection.disconnect(nowait=True)

    async def subscribe(self, names: Collection[str]) -> None:
        """Subscribe to channels; when this returns, every message published from now on is received.

        All of it has one deadline.
        """
        until_s = self._state.deadline_s
        wanted = [name.encode() for name in names]
        for start in range(0, len(wanted), SUBSCRIBE_AT_ONCE):
            batch = wanted[start : start + SUBSCRIBE_AT_ONCE]
            answers = deque(
                self._confirmations.get(name) or self._answer(self._confirmations, name) for name in batch
            )
            await self._send_subscription(self._subscribe_prefix + "SUBSCRIBE", batch, until_s)
            while answers:
                # Shielded: another caller may wait for the confirmation of the same channel.
                await self._state.before_deadline(result_of(answers.popleft()), until_s)

    def _answer(self, expected: "dict[bytes, asyncio.Future[None]]", name: bytes) -> "asyncio.Future[None]":
        answer = expected[name] = asyncio.get_running_loop().create_future()
        # The caller may have been cancelled when the link breaks.
        answer.add_done_callback(retrieve)
        self._state.fail_when_broken(answer)
        return answer

    async def unsubscribe(self, names: Iterable[str]) -> None:
        unsubscribing = [name.encode() for name in names]
        self._unsubscribing.update(unsubscribing)
        await self._send_subscription(
            self._subscribe_prefix + "UNSUBSCRIBE", unsubscribing, self._state.deadline_s
        )

    async def end(self, name: str) -> None:
        """Unsubscribe from a channel; when this returns, nothing that is published to it arrives any more."""
        ended = self._answer(self._endings, name.encode())
        await self.unsubscribe([name])
        await self._state.before_deadline(ended, self._state.deadline_s)

    @property
    def _subscribe_prefix(self) -> str:
        return "S" if self.is_sharded else ""

    async def _send_subscription(self, command: str, names: list[bytes], until_s: float) -> None:
        self._state.check()
        packed = self._connection.pack_command(command, *(self._prefix + name for name in names))
        try:
            async with asyncio.timeout_at(until_s):
                await send(self._connection, packed)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError.
            self._state.abandon(str(error) or "its subscription takes nothing")
            raise Unavailable(LINK_BROKE) from error

    async def await_mark(self, mark: "asyncio.Future[bytes]", until_s: float) -> None:
        """Wait for a mark that this node has published to itself: then all earlier messages have been received.

        Args:
            until_s: the deadline of the call that published it.

        Raises:
            TimeoutError: it did not arrive in time. If nothing else did either, the link is given up.
            Unavailable: the link broke.
        """
        self._state.fail_when_broken(mark)
        try:
            async with asyncio.timeout_at(until_s):
                await mark
        except TimeoutError:
            # A subscription that is merely behind, by a long backlog before the mark, is not silent.
            if time.monotonic() - self._last_message_s >= self._state.timeout_s:
                self._state.abandon(f"nothing arrived over its subscription for {self._state.timeout_s:g} s")
            raise

    async def listen(self) -> None:
        """Pass on the messages buffered since the link was opened, and from now on each as it arrives."""
        while self._buffered:
            for _ in range(min(DISPATCHED_AT_ONCE, len(self._buffered))):
                name, data = self._buffered.popleft()
                self._buffered_bytes -= len(data)
                self._dispatch(name, data)
            await asyncio.sleep(0)
        # No await since the buffer was found empty: no message is left behind, and none overtakes.
        self._buffered = None

    async def receive(self) -> None:
        start = len(self._prefix)
        while True:
            message = await self._connection.read_response(
                disable_decoding=True, timeout=math.inf, push_request=True
            )
            self._last_message_s = time.monotonic()
            if not isinstance(message, list) or len(message) != 3:
                raise Lost(NOT_REDIS)
            kind, name, data = message
            if kind in (b"message", b"smessage"):
                self._buffer_or_dispatch(name[start:], data)
            elif kind in (b"unsubscribe", b"sunsubscribe"):
                # Redis unsubscribes by itself when a slot moves: messages may be lost from then on.
                if name[start:] not in self._unsubscribing:
                    raise Lost(SLOT_MOVED)
                self._unsubscribing.discard(name[start:])
                _confirm(self._endings, name[start:])
            elif kind in (b"subscribe", b"ssubscribe"):
                _confirm(self._confirmations, name[start:])

    def _dispatch(self, name: bytes, data: bytes) -> None:
        try:
            self._on_message(name, data)
        except UNREADABLE as error:
            logger.debug("a published message cannot be read", exc_info=error)
            raise Lost(
                f"another program than channelstream publishes to {name.decode(errors='replace')!r}"
            ) from error

    def _buffer_or_dispatch(self, name: bytes, data: bytes) -> None:
        if self._buffered is None:
            self._dispatch(name, data)
        elif len(self._buffered) < MAX_BUFFERED and self._buffered_bytes < MAX_BUFFERED_BYTES:
            self._buffered.append((name, data))
            self._buffered_bytes += len(data)
        else:
            raise Lost("too much was published while the log was read")


def _confirm(expected: "dict[bytes, asyncio.Future[None]]", name: bytes) -> None:
    answer = expected.pop(name, None)
    if answer is not None and not answer.done():
        answer.set_result(None)
