"""The two connections of a node with a shard: one that calls scripts, pipelined, and one for its subscriptions.

- **A link is used once.** When either connection fails, the link is broken and never used again; the shard opens
  another one and reads from the log what was published meanwhile (`shard_recovery.py`). To repair one of the two
  connections instead would need a proof of what the other one missed.
- **A failed call is not run later.** Redis may run a call at any time until its answer arrives. So each call carries its
  deadline in the time of Redis, and the script refuses one that is late. A call that changes something fails at its deadline
  and not before, even when the connection breaks earlier. The caller may then repeat it without the danger that an
  older call overtakes the new one. A call keeps its deadline however often it is sent.
- **The estimate of the Redis clock errs to one side.** It is taken when an answer arrives, so it is late by the time the
  answer was on its way, and the deadline Redis sees is never later than the one the node waits for. At worst Redis refuses a
  call that was still in time, and the call is sent again with a fresh estimate. The exception is a clock of Redis that is
  set back while the call lies unread there. The alternative is a second round trip for each call.

The parts: `link_subscription.py` is the second connection, `link_state.py` what both share.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import (
    ExecAbortError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.link_state import NOT_REDIS, LinkState
from channelstream.engines.redis.link_subscription import OnMessage, Subscription
from channelstream.engines.redis.scripts import scripts
from channelstream.engines.redis.servers import REFUSALS, info_fields, send
from channelstream.engines.redis.slot_move import SLOT_MOVED
from channelstream.errors import Unavailable
from channelstream.shielded import retrieve

MAX_CALLS = 10_000
"""Calls that may wait for their answers; more are refused."""
MAX_CALL_BYTES = 64 << 20
"""Bytes of calls that may wait for their answers; more are refused."""
SHARDED_SINCE = 7
"""The first version of Redis with sharded publish (SPUBLISH)."""
READS = frozenset(
    {
        "channels",
        "head",
        "history",
        "members_at",
        "nodes",
        "replay",
        "states",
        "user_channels",
        "users",
        "was_stopped",
    }
)
"""Operations that change nothing: a lost one fails at once, since running it late does no harm."""
MEMBERLESS = READS | {"publish"}
"""Operations that change no membership: they make no facts, and are not sent which ones are wanted."""
URGENT = frozenset({"beat", "hold"})
"""Operations that are never refused because too much waits: without them a lease would end."""

logger = logging.getLogger(__name__)

_pack = msgspec.msgpack.Encoder().encode
Command = tuple[Any, ...]
"""A Redis command: its name and its arguments."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A command that waits for its answer.

    Attributes:
        size: its bytes.
        reads: it changes nothing, so it fails as soon as its answer is lost, and not only at its deadline.
    """

    answer: "asyncio.Future[Any]"
    size: int
    reads: bool


class Link:
    """Both connections, from `open` until either breaks or `close`.

    Attributes:
        run_id: the run id of the Redis it is connected with: another one after each restart and failover.
        publish_command: PUBLISH or, in a cluster from version 7, SPUBLISH, which reaches only subscribers at this master.
        subscription: its connection for what is published.
    """

    def __init__(
        self, address: ShardAddress, on_message: OnMessage, timeout_s: float, facts: bytes = b""
    ) -> None:
        """Create a link that is not open.

        Args:
            on_message: called with channel (without the prefix) and data, in the order of publishing, after `listen`.
            timeout_s: how long an answer may take, in seconds, before the link counts as broken.
            facts: see `NodeContext.facts`.
        """
        self.run_id = ""
        self._state = LinkState(timeout_s)
        self.subscription = Subscription(address, on_message, self._state)
        self.publish_command = "PUBLISH"
        self._address = address
        self._commands = address.connect()
        self._prefix = address.prefix.encode()
        self._shas: dict[str, str] = {}
        self._facts = (facts,) if facts else ()
        self._clock_offset_ms = 0.0  # From the steady clock of this process to the clock of Redis.
        self._calls: deque[_Call] = deque()
        self._call_bytes = 0
        self._unsent: list[bytes] = []
        self._unsent_event = asyncio.Event()
        self._replies_are_lost = False
        self._command_tasks: list[asyncio.Task[None]] = []
        self._subscription_task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: it did not work in time.
            ResponseError: Redis has refused something.
            AuthenticationError: it refuses the login, or there is none.
        """
        try:
            async with asyncio.timeout(self._state.timeout_s):
                await self._commands.connect()  # type: ignore[no-untyped-call]
                await self._check_login()
                await self.subscription.connect()
        except (RedisError, OSError, TimeoutError) as error:
            await self.close()
            # redis-py wraps what a server answers to the login.
            if isinstance(error.__cause__ or error, REFUSALS):
                raise (error.__cause__ or error) from None
            if isinstance(error.__cause__ or error, InvalidResponse):
                raise Unavailable(f"Redis cannot be used: {NOT_REDIS}") from error
            reason = str(error).rstrip(".") or "no answer in time"
            raise Unavailable(
                f"Redis is out of reach: {reason}; check that it runs, and the option engine"
            ) from error
        loop = asyncio.get_running_loop()
        for work in (self._send, self._receive):
            self._command_tasks.append(loop.create_task(self._until_broken(work, self._lose_replies)))
        self._subscription_task = loop.create_task(
            self._until_broken(self.subscription.receive, self.abandon)
        )
        texts = scripts()
        loaded = {text: (await self.command("SCRIPT", "LOAD", text)).decode() for text in set(texts.values())}
        self._shas = {operation: loaded[text] for operation, text in texts.items()}
        about = await self.info("server")
        self.run_id = about["run_id"]
        if self._address.in_cluster and int(about["redis_version"].split(".")[0]) >= SHARDED_SINCE:
            self.publish_command = "SPUBLISH"
            self.subscription.is_sharded = True
        await self._measure_clock_offset(self.deadline_s)

    async def _check_login(self) -> None:
        """Find out whether Redis wants one. It would answer to the scripts, long commands, that they break the protocol."""
        await send(self._commands, self._commands.pack_command("PING"))
        with suppress(NoPermissionError):  # A user who is logged in, and needs no right to this command.
            await self._commands.read_response(disable_decoding=True)

    async def info(self, section: str) -> dict[str, str]:
        return info_fields(await self.command("INFO", section))

    @property
    def deadline_s(self) -> float:
        """See `LinkState.deadline_s`."""
        return self._state.deadline_s

    @property
    def broken(self) -> asyncio.Event:
        """Set when the link cannot be used any more."""
        return self._state.broken

    @property
    def reason(self) -> str:
        """Why it is broken; empty before."""
        return self._state.reason

    def abandon(self, reason: str) -> None:
        """See `LinkState.abandon`."""
        self._state.abandon(reason)

    async def _measure_clock_offset(self, until_s: float) -> None:
        seconds, microseconds = await self._ask(("TIME",), until_s, reads=True)
        self._update_clock_offset(int(seconds) * 1000 + int(microseconds) / 1000)

    def _update_clock_offset(self, redis_ms: float) -> None:
        """Take the time of Redis from an answer that has just arrived; its clock may have been set since the last one.

        The offset is too low by the time that the answer was on its way, never too high (see the head of this file).
        """
        self._clock_offset_ms = redis_ms - _steady_ms()

    async def stop_listening(self) -> None:
        """Stop sending and receiving messages; calls that were sent may still be answered."""
        self._state.mark_broken()
        if self._subscription_task is not None:
            self._subscription_task.cancel()
            await asyncio.gather(self._subscription_task, return_exceptions=True)
            self._subscription_task = None
        await self.subscription.disconnect()

    async def drain(self) -> None:
        """Close the link once every call that was sent has its answer or has passed its deadline."""
        try:
            await self.stop_listening()
            waiting = [call.answer for call in self._calls if not call.answer.done()]
            if waiting and not self._replies_are_lost:
                await asyncio.wait(waiting, timeout=self._state.timeout_s)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close both connections; calls that wait fail at their deadlines."""
        await self.stop_listening()
        for task in self._command_tasks:
            task.cancel()
        await asyncio.gather(*self._command_tasks, return_exceptions=True)
        self._command_tasks.clear()
        self._lose_replies("it is closed")
        await self._commands.disconnect(nowait=True)

    async def _until_broken(
        self, work: Callable[[], Coroutine[Any, Any, None]], give_up: Callable[[str], None]
    ) -> None:
        try:
            await work()
        except MovedError:  # The answer to a subscription.
            give_up(SLOT_MOVED)
        except (RedisError, OSError) as error:
            give_up(str(error) or "it broke")
        except Exception:
            # A message that cannot be read must not be skipped: the position would pass it. The log is read again.
            logger.exception("the connection with Redis failed")
            give_up("a message could not be read")

    def _lose_replies(self, reason: str) -> None:
        """Break the link and expect no answers: calls that only read fail now, the others at their deadlines."""
        self.abandon(reason)
        self._replies_are_lost = True
        for call in self._calls:
            if call.reads:
                self._state.fail(call.answer)
        self._calls.clear()
        self._call_bytes = 0

    # -- calls

    async def call(
        self,
        epoch: str,
        now_ms: str,
        operation: str,
        blob: bytes = b"",
        first: Sequence[Command] = (),
        until_s: float | None = None,
        **arguments: Any,
    ) -> Any:
        """Run one operation, by its script.

        Args:
            blob: bytes to pass on; the MessagePack of Redis has only text.
            first: commands that are run right before the script, in one transaction with it.
            until_s: the deadline, by the clock of the loop; None means that of a call that begins now.

        Raises:
            Unavailable: the outcome is unknown.
            ResponseError: the script has refused.
        """
        until_s = self.deadline_s if until_s is None else until_s
        argv = (
            epoch,
            now_ms,
            self._prefix,
            self.publish_command,
            operation,
            _pack(arguments),
            blob,
        )
        try:
            return await self._run(operation, argv, first, until_s)
        except ResponseError as error:
            if not str(error).startswith("LATE"):
                raise
        # The answer arrived in time and nothing was done, so the estimate was wrong: the clock of Redis was set.
        await self._measure_clock_offset(until_s)
        return await self._run(operation, argv, first, until_s)

    async def _run(
        self, operation: str, argv: tuple[Any, ...], first: Sequence[Command], until_s: float
    ) -> Any:
        if operation not in URGENT:
            self._check_room()
        until_ms = f"{1000 * until_s + self._clock_offset_ms:.0f}"
        facts = () if operation in MEMBERLESS else self._facts
        parts = ("EVALSHA", self._shas[operation], 1, self._prefix, *argv, until_ms, *facts)
        if first:
            redis_ms, answer = await self._ask_in_transaction([*first, parts], until_s)
        else:
            redis_ms, answer = await self._ask(parts, until_s, reads=operation in READS)
        self._update_clock_offset(float(redis_ms))
        return answer

    async def command(self, *parts: Any) -> Any:
        """Run a command that changes nothing in the log."""
        self._check_room()
        return await self._ask(parts, self.deadline_s, reads=True)

    def _check_room(self) -> None:
        if len(self._calls) >= MAX_CALLS or self._call_bytes >= MAX_CALL_BYTES:
            raise Unavailable("Too much waits for Redis; try again later.")

    async def _ask(self, parts: Command, until_s: float, reads: bool) -> Any:
        return await self._state.before_deadline(self._enqueue(parts, reads), until_s)

    async def _ask_in_transaction(self, commands: Sequence[Command], until_s: float) -> Any:
        """Run commands in one transaction, and return the answer of the last."""
        queued = [self._enqueue_unheeded(parts, reads=False) for parts in (("MULTI",), *commands)]
        try:
            answer = (await self._ask(("EXEC",), until_s, reads=False))[-1]
        except ExecAbortError:
            # The reason is the error of the first command that was not queued.
            raise next(filter(None, (each.exception() for each in queued))) from None
        finally:
            # Nothing waits for these answers, so no deadline ends them.
            while queued:
                queued.pop().cancel()
        if not isinstance(answer, ResponseError):
            return answer
        # The script has not run, so nothing refers to the payloads that were written for it.
        for name, key, field, *_ in commands:
            if name == "HSET":
                self._enqueue_unheeded(("HDEL", key, field), reads=True)
        try:
            raise answer
        finally:
            del answer

    def _enqueue_unheeded(self, parts: Command, reads: bool) -> "asyncio.Future[Any]":
        """Send a command of which nobody needs to know whether it has failed."""
        answer = self._enqueue(parts, reads)
        answer.add_done_callback(retrieve)
        return answer

    def _enqueue(self, parts: Command, reads: bool) -> "asyncio.Future[Any]":
        """Send a command with the next packet, and return the future of its answer."""
        self._state.check()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        packed = self._commands.pack_command(*parts)
        size = sum(map(len, packed))
        self._calls.append(_Call(answer, size, reads))
        self._call_bytes += size
        self._unsent += packed
        self._unsent_event.set()
        return answer

    async def _send(self) -> None:
        """Send everything that was queued while the last packet was being sent: more calls share a packet under load."""
        while True:
            await self._unsent_event.wait()
            self._unsent_event.clear()
            unsent, self._unsent = self._unsent, []
            await send(self._commands, unsent)

    async def _receive(self) -> None:
        while True:
            try:
                answer: Any = await self._commands.read_response(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                answer = error
            if not self._calls:
                raise Lost(NOT_REDIS)
            call = self._calls.popleft()
            self._call_bytes -= call.size
            if call.answer.done():
                continue
            if isinstance(answer, ResponseError):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)


def _steady_ms() -> float:
    # Not the time of the loop: uvloop reads it once per turn, so it may be too early.
    return 1000 * time.monotonic()
