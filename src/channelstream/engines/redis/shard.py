"""One shard of the log, as one node sees it: calls of the script, subscriptions, and catching up after an outage.

A shard has its own epoch and offsets, and reconnects independently of the others; `engine.py` combines them.

The invariant is that of `EventLog.position`: `offset` never passes an event of a subscribed channel or user that was
neither delivered nor reported as lost. Pub/sub alone cannot guarantee this: Redis drops messages when a connection
breaks, and when a subscriber is too slow. But the log has all events. So these rules hold:

- **Gaps are detected.** Each message carries the offset of the previous event in its channel. If that event was not
  received, the link is broken on purpose and the log is read (`_on_gap`). One counter for all messages would not show
  gaps, since each node subscribes to other channels.
- **Catching up comes before live messages.** `establish` subscribes first, then reads the log, and only then passes on
  the messages that arrived meanwhile, which the link has buffered. If it read the log before it subscribed, an event
  published between the two steps would be missed. Events that arrive twice are recognized by their offset.
- **All logs advance together.** The log of a channel is read in pieces, and a position has one offset for all channels
  of the shard. So the catch-up delivers events only up to the offset up to which every log has been read. If it read
  one channel after the other to its end, it would move `offset` past unread events of the others, or need all events in
  memory.
- **A position that was too high ends the epoch.** If a gap is found at an offset up to `offset`, clients may already
  have a position after the missed event. No later read can repair that. So the node asks for a new epoch: all positions
  of the shard become invalid, and its channels are reported as lost to the clients. That is rare, and the alternative
  is silent loss.
- **Another Redis is another log.** After a restart or a failover the data may lack acknowledged events. The script
  compares the run id and begins a new epoch (`hello` in `lua/4_operations.lua`).
- **A moved slot is the same log.** The master of a cluster may give the shard's slot to another one (`slot_move.py`).
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Lost

from channelstream.core.events import Event
from channelstream.engines.base import Clock
from channelstream.engines.cluster import ClusterReceiver
from channelstream.engines.redis import codec
from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.link import (
    NOT_REDIS,
    OUT_OF_REACH,
    SUBSCRIBE_AT_ONCE,
    UNREADABLE,
    Command,
    Link,
)
from channelstream.engines.redis.pending_replies import PendingReplies
from channelstream.engines.redis.slot_move import MOVING, PROBE_S, SLOT_MOVED, SlotMove, SlotMoving
from channelstream.errors import ConfigError, Unavailable

SCANNED_AT_ONCE = 1000
"""Items in one page of a scan."""
CHUNK = 100
"""Channels or users named in one call; the script answers how many of them it has done."""
PAYLOAD_PREFIX = b"payload "
"""Prefix of a published payload; its token follows."""
EPOCH = b"epoch "
"""Prefix of the message to all nodes that announces a new epoch."""
AGAIN = b"again"
"""The answer of the script if it has stopped at its limits: the caller makes the same call again."""
FIELDS_WITH_TOKEN = 5
"""Number of parts of an answered entry whose payload lies beside the log: the last two are its key and its token."""
DUPLICATE_WITH_TOKEN = 4
"""The same number for the answer to a duplicate message."""
CATCH_UP_AT_ONCE = 2000
"""Entries read in one round of catching up, of all channels and users together."""
READ_AT_ONCE = 200
"""Entries read by one call; the script stops earlier at 1 MiB, or at 256 KiB of small entries."""
DELIVERED_AT_ONCE = 200
"""Entries delivered in one turn of the event loop."""
ASK_TIMEOUT_S = 2.0
"""How long another node may take to execute a command, in seconds."""
ANOTHER_SERVER = (NoScriptError, ReadOnlyError, MasterDownError, ClusterDownError)
"""Errors after which the node reconnects, because the server has another role now, or was replaced."""
OTHER_LOG = ("EPOCH", "LATE", "READONLY")
"""Beginnings of other error texts after which the node reconnects."""
BUSY = ("BUSY", "MISCONF", "NOREPLICAS", "OOM")
"""Beginnings of error texts which mean, like OutOfMemoryError, that Redis cannot run the call now."""
WRAPPED = re.compile(r"Error running script .*: -(?=[A-Z]+ )")
"""The text that Redis 6.2 puts before the error of a command in a script; 7.0 passes the error on as it is."""
REFUSED = "The engine cannot do that now; try again later."
"""The error text for callers when Redis refuses; the reason is logged."""

_NOTHING: Mapping[str, Any] = {}

logger = logging.getLogger(__name__)

_pack = msgspec.msgpack.Encoder().encode
T = TypeVar("T")
Logs = list[tuple[str, str, int]]
"""Logs to read: kind (c for a channel, u for a user), name, and the offset to read after."""
Read = tuple[int, int, list[int], list[list[bytes]]]
"""The result of a read: head, offset up to which the result is complete, indexes (from 1) of lost logs, entries in order."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Timings of a node in Redis.

    Attributes:
        timeout_s: how long an answer of Redis may take before Redis counts as out of reach.
        lease_s: how long the connections of a dead node stay registered.
    """

    timeout_s: float = 5.0
    lease_s: float = 10.0


@dataclass(frozen=True, slots=True)
class NodeContext:
    """The values that all shards of a node share.

    Attributes:
        name: the id of the node in Redis.
        label: the machine and the process, for people.
        shards: the number of shards of the log.
        new_id: makes tokens.
        new_epoch: makes the candidate for a new epoch.
        clock: for the ages of entries; None means the clock of Redis, which all nodes share.
    """

    name: str
    label: str
    shards: int
    settings: RedisSettings
    new_id: Callable[[], str]
    new_epoch: Callable[[], str]
    clock: Clock | None


class ShardEvents(Protocol):
    """The callbacks of the engine that a shard calls."""

    @property
    def cluster_receiver(self) -> ClusterReceiver:
        """The node as the cluster sees it."""

    def deliver(self, shard: int, offset: bytes, at_ms: bytes, text: bytes, payload: bytes) -> None:
        """Deliver an event; `Shard.offset` includes it already."""

    def advance(self) -> None:
        """Report that the offset of a shard has advanced without an event for this node."""

    def log_replaced(self, shard: int) -> None:
        """Report that a shard has another log now."""

    def taken_over(self, conn_id: str) -> None:
        """Report that another node owns a connection."""


class Shard:
    """One node's view of one shard.

    Attributes:
        epoch: the identity of its log; empty before the first `establish`.
        offset: every event up to this offset that concerns this node was delivered, or reported as lost.
        unconfirmed: connections whose last call to this shard has an unknown outcome; the reconciler restores them.
        pending_state: users whose changed state was not sent to this shard yet.
    """

    def __init__(self, index: int, address: ShardAddress, node: NodeContext, events: ShardEvents) -> None:
        self.index = index
        self.epoch = ""
        self.offset = 0
        self.unconfirmed: set[str] = set()
        self.pending_state: set[str] = set()
        self._address = address
        self._node = node
        self._events = events
        self._link: Link | None = None
        self._draining: set[Link] = set()
        self._needs_new_epoch = False
        self._subscribed: dict[str, int] = {}
        self._unused: set[str] = set()
        self._move = SlotMove()
        self._replies = PendingReplies(node.new_id)
        self._payloads: dict[bytes, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the link

    @property
    def label(self) -> str:
        """Its name in log lines."""
        return (
            "Redis" if self._node.shards == 1 else f"shard {self.index + 1} of {self._node.shards} in Redis"
        )

    @property
    def is_linked(self) -> bool:
        return self._link is not None and not self._link.broken.is_set()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in (*self._draining, *([self._link] if self._link else ())):
            await link.close()

    @property
    def is_reachable(self) -> bool:
        """Whether calls are sent, or wait for the end of a slot move."""
        return self.is_linked or self._move.is_going_on

    async def wait_broken(self) -> str:
        """Return when the link is broken, after unlinking, with the reason."""
        if self._link is None:
            return OUT_OF_REACH
        link = self._link
        await link.broken.wait()
        if link.reason == SLOT_MOVED:
            self._move.begin()
        await self.unlink()
        return link.reason

    async def unlink(self) -> None:
        """Drop the link: none of its messages is delivered any more, but calls that were sent may still be answered."""
        link, self._link = self._link, None
        if link is not None:
            self._draining.add(link)  # Before the await: if this is cancelled, `close` still finds the link.
            await link.stop_listening()
            self._run(self._drain(link))

    async def _drain(self, link: Link) -> None:
        await link.drain()
        self._draining.discard(link)

    async def establish(self) -> None:
        """Open a new link in place of an older one, and deliver the events missed since then.

        Raises:
            Unavailable: Redis is out of reach, or failed meanwhile.
            ConfigError: Redis has no shard of this log.
        """
        await self.unlink()
        link = Link(self._address, self._on_message, self._node.settings.timeout_s)
        try:
            await link.open()
            # The order matters: subscribe before the log is read, and pass on live messages only after that.
            await self._resubscribe(link)
            await self._hello(link)
            await link.listen()
        except BaseException as error:
            await link.close()
            if isinstance(error, (*MOVING, SlotMoving)):
                self._move.begin()
            else:
                self._move.end()
            if isinstance(error, ResponseError):
                raise self._start_error(error) from error
            if isinstance(error, Lost):
                raise Unavailable(OUT_OF_REACH) from error
            if isinstance(error, UNREADABLE) or link.reason == NOT_REDIS:
                logger.debug("%s: %s", self.label, NOT_REDIS, exc_info=error)
                raise Unavailable(f"{self.label} cannot be used: {NOT_REDIS}") from error
            raise
        self._link = link
        self._move.end()

    async def _resubscribe(self, link: Link) -> None:
        """Subscribe to all channels again, in batches.

        Each has its own deadline, since a confirmed batch proves progress.
        """
        names = [f"#n:{self._node.name}", "#all", *self._subscribed]
        for start in range(0, len(names), SUBSCRIBE_AT_ONCE):
            await link.subscribe(names[start : start + SUBSCRIBE_AT_ONCE])

    def _start_error(self, error: ResponseError) -> ConfigError | Unavailable:
        kind, _, rest = str(error).partition(" ")
        if kind == "SHARD":
            return ConfigError(
                f"engine: the log in Redis has another number of shards than the {self._node.shards} of the address:"
                f" {rest}"
            )
        if kind == "LAYOUT":
            return ConfigError(
                f"engine: the data in Redis has format {rest}, that of another version of channelstream: stop all"
                " nodes, run FLUSHDB, and start them"
            )
        if isinstance(error, MovedError) and not self._address.in_cluster:
            return ConfigError(
                "engine: this Redis is a member of a cluster: write redis+cluster://host:port,host:port?shards=3"
            )
        return Unavailable(f"Redis cannot be used now: {error}")

    async def _hello(self, link: Link) -> None:
        """Compare the epoch: catch up if it is the same log, or begin with the new one."""
        moved_from, up_ms = await self._former_master(link)
        epoch, offset = await link.call(
            "",
            "",
            "hello",
            candidate=self._node.new_epoch(),
            run=link.run_id,
            moved_from=moved_from,
            up_ms=up_ms,
            known_epoch=self.epoch,
            known_seq=self.offset,
            distrust=self._needs_new_epoch,
            shard=f"{self.index + 1} of {self._node.shards}",
        )
        self._needs_new_epoch = False
        if epoch.decode() == self.epoch:
            await self._catch_up(link)
            return
        is_first = not self.epoch
        self.epoch, self.offset = epoch.decode(), int(offset)
        self._subscribed = dict.fromkeys(self._subscribed, -1)  # Offsets of the former log prove nothing.
        if not is_first:
            logger.warning("the log in Redis was replaced: clients are sent that its channels are lost")
            self._events.log_replaced(self.index)

    async def _former_master(self, link: Link) -> tuple[str, int]:
        """Return the run id of the master that has given the slot to the present one, and the age of the present one.

        The run id is empty if the slot has not moved. The age is in ms, and 0 for a former replica: it may lack writes.
        """
        if not self._address.in_cluster:
            return "", 0
        run = await link.command("HGET", f"{self._address.prefix}log", "run")
        if run is None or run.decode() == link.run_id or not await self._address.has_moved(run.decode()):
            return "", 0
        was_replica = (await link.info("replication"))["second_repl_offset"] != "-1"
        uptime_s = int((await link.info("server"))["uptime_in_seconds"])
        return run.decode(), 0 if was_replica else 1000 * uptime_s

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Run an operation of the script in as many steps as it takes, within one deadline.

        The deadline includes the time to receive the messages published by each step. So a call that publishes very
        much may be refused.

        Raises:
            Unavailable: Redis is out of reach, or has another log. Some steps may be done: a repeated call continues
                after them.
        """
        until_s = self._deadline_s
        step = partial(self.step, operation, until_s=until_s, **arguments)
        while (answer := await self._outlast_move(step, until_s, arguments)) == AGAIN:
            pass
        return answer

    @property
    def _deadline_s(self) -> float:
        return asyncio.get_running_loop().time() + self._node.settings.timeout_s

    async def _outlast_move(
        self,
        work: Callable[[], Awaitable[T]],
        until_s: float | None = None,
        arguments: Mapping[str, Any] = _NOTHING,
    ) -> T:
        """Run work, again each time it was refused because the slot of this shard moves.

        Raises:
            Unavailable: the move has not ended before the deadline, or a new log has begun meanwhile.
        """
        epoch = self.epoch

        async def in_this_log() -> T:
            if self.epoch != epoch:
                raise Unavailable(REFUSED)
            return await work()

        size = len(_pack(arguments)) if self._move.is_going_on else 0
        return await self._move.outlast(in_this_log, self._deadline_s if until_s is None else until_s, size)

    async def step(self, operation: str, until_s: float | None = None, **arguments: Any) -> Any:
        """Run one step; AGAIN is the answer if there is more to do.

        After AGAIN it waits until this node has received what the step published. Otherwise Redis would drop a
        subscriber that falls too far behind (`client-output-buffer-limit`).
        """
        answer = await self._call(self._linked(), operation, until_s=until_s, **arguments)
        if answer == AGAIN:
            await self._replay_marked([], 0, until_s)
        return answer

    async def send_paced(self, operation: str, **arguments: Any) -> None:
        """Run an operation that publishes very much, each step with its own deadline: a finished step proves progress."""
        while await self._outlast_move(partial(self.step, operation, **arguments)) == AGAIN:
            pass

    async def publish(self, events: Sequence[Event]) -> list[list[bytes]]:
        """Publish as many events as fit, from the first on; the caller publishes those without an answer by another call.

        An event with a big payload is published alone.
        """
        token = self._node.new_id()
        payload = codec.big_payload(events[0])
        encoded = [codec.write_event(event, token) for event in events]
        first = [] if payload is None else self._payload_commands(encoded[0], token, payload)
        answers: list[list[bytes]] = await self.call("publish", events=encoded, first=first)
        return [
            await self._with_payload(event, answer) for event, answer in zip(events, answers, strict=False)
        ]

    async def _with_payload(self, event: Event, answer: list[bytes]) -> list[bytes]:
        """Return the answer to a duplicate message, with its payload if that lies beside the log."""
        if len(answer) < DUPLICATE_WITH_TOKEN:
            return answer
        payload = await self._command(self._linked(), "HGET", *answer[2:])
        if payload is None:  # Superseded between the two commands, so the answer has changed.
            return (await self.publish([event]))[0]
        return [*answer[:2], payload]

    def _payload_commands(self, fields: dict[str, Any], token: str, payload: bytes) -> list[Command]:
        """Return the commands that write a payload to every place where the script may keep it, and publish it."""
        prefix, channel = self._address.prefix, fields["channel"]
        names = [f"c:{channel}"] if channel else [f"u:{user}" for user in fields["only"]]
        kept = [f"{kind}p:{name}" for kind, _, name in (each.partition(":") for each in names)]
        if channel and not fields["only"] and not fields["no_history"]:
            kept.append(f"hp:{channel}")
        publish_command = self._linked().publish_command
        data = b"%b%b %b" % (PAYLOAD_PREFIX, token.encode(), payload)
        return [
            *(("HSET", prefix + name, token, payload) for name in kept),
            *((publish_command, f"{prefix}#{name}", data) for name in names),
        ]

    async def call_for_each(self, operation: str, name: str, items: Sequence[Any], **arguments: Any) -> None:
        """Run an operation on a list, in as many calls as it takes: each call answers how many items it has done.

        Args:
            name: the argument of the operation that takes the list.
        """
        done = 0
        while done < len(items):
            done += await self.call(operation, **{name: items[done : done + CHUNK]}, **arguments)

    async def read_each(self, operation: str, names: Sequence[str], **options: bool) -> list[Any]:
        """Run an operation that reads a list of names, in as many calls as it takes: each answers how many it has read."""
        found: list[Any] = []
        done = 0
        while done < len(names):
            count, batch = await self.call(operation, names=names[done : done + CHUNK], **options)
            done += count
            found += batch
        return found

    def _linked(self) -> Link:
        if self._link is None:
            raise Unavailable(OUT_OF_REACH)
        if self._link.reason == SLOT_MOVED:
            self._move.begin()
        return self._link

    async def _call(self, link: Link, operation: str, **arguments: Any) -> Any:
        clock = self._node.clock
        now_ms = "" if clock is None else f"{clock.wall() * 1000:.0f}"
        try:
            return await link.call(self.epoch, now_ms, operation, **arguments)
        except MOVING as error:
            self._begin_move(link, isinstance(error, MovedError))
            raise SlotMoving(REFUSED) from error
        except ResponseError as error:
            reason = WRAPPED.sub("", str(error))
            if reason.startswith(OTHER_LOG) or isinstance(error, ANOTHER_SERVER):
                link.abandon(reason)
            elif not isinstance(error, OutOfMemoryError) and not reason.startswith(BUSY):
                logger.exception("Redis has refused a call of %s for an unexpected reason", operation)
            logger.warning("Redis has refused a call: %s", error)
            raise Unavailable(REFUSED) from error

    async def _command(self, link: Link, *parts: Any) -> Any:
        """Run a command that changes nothing."""
        try:
            return await link.command(*parts)
        except MOVING as error:
            self._begin_move(link, isinstance(error, MovedError))
            raise SlotMoving(REFUSED) from error
        except ResponseError as error:
            logger.warning("Redis has refused a command: %s", error)
            raise Unavailable(REFUSED) from error

    def _begin_move(self, link: Link, has_ended: bool) -> None:
        """Let calls wait for the end of a move, unless the shard has another link already."""
        if link is not self._link:
            return
        if has_ended:
            self._move.begin()
            link.abandon(SLOT_MOVED)
        elif not self._move.is_going_on:
            logger.warning("%s: its slot is being moved to another master; calls wait", self.label)
            self._move.begin()
            self._run(self._await_move(link))

    async def _await_move(self, link: Link) -> None:
        """Ask Redis whether the move has ended, until it has or the link is broken."""
        while self._move.is_going_on and not link.broken.is_set():
            await asyncio.sleep(PROBE_S)
            try:
                await link.command("EXISTS", self._address.prefix)
                self._move.end()  # It was given up.
            except MovedError:
                link.abandon(SLOT_MOVED)
            except (ResponseError, Unavailable) as error:
                logger.debug("%s: the move has not ended: %s", self.label, error)

    async def names(self, kind: str) -> list[str]:
        """Return all channels (c) or users (u) of this shard, sorted."""
        key = f"{self._address.prefix}known:{kind}"

        async def scan() -> list[str]:
            # A scan may return a name twice.
            return sorted({name.decode() async for batch in self._scan("SSCAN", key) for name in batch})

        return await self._outlast_move(scan)

    @property
    def _registered(self) -> str:
        return f"{self._address.prefix}nk:{self._node.name}"

    async def registered(self) -> AsyncIterator[list[str]]:
        """Yield the ids of the connections registered for this node, in batches. An id may come twice."""
        async for batch in self._scan("SSCAN", self._registered):
            yield [conn_id.decode() for conn_id in batch]

    async def fields(self, kind: str, name: str) -> dict[bytes, bytes]:
        """Return a hash of any size: every field that it has during the whole scan."""

        async def scan() -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            async for flat in self._scan("HSCAN", f"{self._address.prefix}{kind}:{name}"):
                found |= zip(flat[::2], flat[1::2], strict=True)
            return found

        return await self._outlast_move(scan)

    async def _scan(self, command: str, key: str) -> AsyncIterator[list[bytes]]:
        """Read a set or a hash page by page, since Redis serves no other caller while it makes a page."""
        link = self._linked()
        cursor = b"0"
        while True:
            cursor, batch = await self._command(link, command, key, cursor, "COUNT", SCANNED_AT_ONCE)
            yield batch
            if cursor == b"0":
                return

    async def unregistered(self, conn_ids: Sequence[str]) -> list[str]:
        """Return the connections among these that are not registered for this node."""
        known = await self._command(self._linked(), "SMISMEMBER", self._registered, *conn_ids)
        return [conn_id for conn_id, is_known in zip(conn_ids, known, strict=True) if not is_known]

    async def heartbeat(self, **arguments: Any) -> tuple[int, list[bytes], int]:
        """Renew this node's lease, and verify that the subscription still delivers messages.

        Returns:
            The number of connections registered for this node, the nodes whose lease has ended, and whether the lease
            of this node had ended.
        """
        link = self._linked()
        until_s = link.deadline_s
        async with self._replies.expect() as (token, mark):
            count, dead, lapsed = await self._call(
                link, "beat", node=self._node.name, mark=token, until_s=until_s, **arguments
            )
            await link.await_mark(mark, until_s)
        return count, dead, lapsed

    # -- messages

    def _on_message(self, name: bytes, data: bytes) -> None:
        kind = name.partition(b":")[0]
        if data.startswith(PAYLOAD_PREFIX):
            # The event of a payload follows at once, in the same transaction. An older payload is that of a refused event.
            _, token, payload = data.split(b" ", 2)
            self._payloads = {token: payload}
        elif kind in (b"#c", b"#u"):
            self._on_entry(name.decode(), data)
        elif kind == b"#n":
            self._payloads.clear()
            self._on_node_message(*data.split(b" ", 1))
        elif kind == b"#all" and data.startswith(EPOCH):
            self._on_epoch(data.removeprefix(EPOCH).decode())
        elif kind == b"#all":
            # A newer version may send it during a rolling upgrade.
            logger.warning("a message of an unknown kind to all nodes: %r", data[:50])
        else:
            raise ValueError(name)

    def _on_epoch(self, epoch: str) -> None:
        if epoch != self.epoch and self._link is not None:
            self._link.abandon("the log is another one")

    def _on_entry(self, name: str, data: bytes) -> None:
        offset, previous, at_ms, text = data.split(b" ", 3)
        body, _, payload_text = text.partition(b"\n")
        token = payload_text.removeprefix(b"@") if payload_text.startswith(b"@") else b""
        payload = self._payloads.get(token, b"")
        if not token:
            self._payloads.clear()
        elif not payload:
            raise Lost(f"the payload of event {int(offset)} was not received")
        number, seen = int(offset), self._subscribed.get(name, -1)
        if -1 < seen < int(previous):
            self._on_gap(int(previous))
            return
        if name in self._subscribed:
            self._subscribed[name] = max(seen, number)
        if number > self.offset:  # A private message is published once for each of its users.
            self._deliver(offset, at_ms, body if token else text, payload)

    def _on_gap(self, number: int) -> None:
        """Break the link, so that the log is read from the gap.

        Raises:
            Lost: always, since one more message would move `offset` past the missed event.
        """
        # A client's position may have passed an event behind `offset`, so no position is valid any more.
        self._needs_new_epoch = self._needs_new_epoch or number <= self.offset
        raise Lost(f"event {number} was not received")

    def _deliver(self, offset: bytes, at_ms: bytes, text: bytes, payload: bytes = b"") -> None:
        self.offset = int(offset)
        self._events.deliver(self.index, offset, at_ms, text, payload)

    def _advance(self, offset: int) -> None:
        if offset > self.offset:
            self.offset = offset
            self._events.advance()

    def _on_node_message(self, kind: bytes, rest: bytes) -> None:
        """Handle a message to this node alone."""
        match kind:
            case b"yielded":
                self._events.taken_over(rest.decode())
            case b"ask":
                node, token, command = rest.split(b" ", 2)
                self._run(self._answer(node.decode(), token.decode(), command))
            case b"mark" | b"reply":
                token, _, data = rest.partition(b" ")
                if kind == b"mark":
                    self._advance(int(data))
                self._replies.resolve(token, data)
            case b"there":
                pass  # Only the number of receivers matters: `claim` in Lua counts them.
            case _:
                # A newer version may send it during a rolling upgrade.
                logger.warning("a node sent a message of an unknown kind: %r", kind)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, node: str, token: str, command: bytes) -> None:
        try:
            await self.call(
                "reply", node=node, token=token, blob=await self._events.cluster_receiver.execute(command)
            )
        except Unavailable as error:
            logger.warning("a command of another node was not answered: %s", error)

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        """See `Cluster.ask`; this is the shard of the connection's id."""
        async with self._replies.expect() as (token, reply):
            receivers = await self.call(
                "ask", conn_id=conn_id, node=self._node.name, token=token, blob=command
            )
            return None if receivers <= 0 else await asyncio.wait_for(reply, ASK_TIMEOUT_S)

    # -- subscriptions

    async def subscribe(self, names: Sequence[str]) -> list[str]:
        """Subscribe to channels and users; return those that are new."""
        new = [name for name in names if name not in self._subscribed]
        # The caller is about to add a member: `unsubscribe_unused` must not unsubscribe these names meanwhile.
        self._unused.difference_update(names)
        if new:
            await self._outlast_move(lambda: self._linked().subscribe(new))
            # Names that another call has subscribed and marked as complete meanwhile keep their offset.
            self._subscribed |= {name: -1 for name in new if name not in self._subscribed}
        return new

    def mark_complete(self, names: Sequence[str], offset: int) -> None:
        """Record that no event of these names is missing up to an offset: gaps are detected from there."""
        self._subscribed |= {
            name: max(self._subscribed[name], offset) for name in names if name in self._subscribed
        }

    async def unsubscribe_unused(self) -> None:
        """Unsubscribe from channels and users that had no member here in two collections in a row.

        One collection is not enough: a join subscribes first, and its member exists only after the answer of the script.
        """
        unused = {name for name in self._subscribed if not self._is_used(name)}
        unsubscribed = unused & self._unused
        self._unused = unused - unsubscribed
        for name in unsubscribed:
            del self._subscribed[name]
        if unsubscribed and self._link is not None:
            await self._link.unsubscribe(unsubscribed)

    def _is_used(self, name: str) -> bool:
        kind, _, rest = name.partition(":")
        is_used = {
            "#c": self._events.cluster_receiver.has_channel,
            "#u": self._events.cluster_receiver.has_user,
        }[kind]
        return is_used(rest)

    # -- the log

    async def _catch_up(self, link: Link) -> None:
        """Deliver the events published while the link was down, in offset order, round by round.

        Each round reads further in the logs that were read the least far, and delivers the events up to the offset that
        all logs have reached. The head is read first. Later events are in the buffer of the subscription.
        """
        starts = [(name[1], name[3:], max(self.offset, seen)) for name, seen in self._subscribed.items()]
        head = int(await self._call(link, "head"))
        pieces = [starts[at : at + CHUNK] for at in range(0, len(starts), CHUNK)]
        unread = [(self.offset, piece) for piece in pieces if self.offset < head]
        found: dict[int, list[list[bytes]]] = {}
        while unread:
            behind = min(end for end, _ in unread)
            limit = min(READ_AT_ONCE, max(1, CATCH_UP_AT_ONCE // len(unread)))
            read = [
                await self._read_missed(link, batch, limit, found) if end == behind else (end, batch)
                for end, batch in unread
            ]
            unread = [(end, batch) for end, batch in read if end < head]
            await self._deliver_found(found, min((end for end, _ in unread), default=head))
        self._advance(head)
        self.mark_complete(list(self._subscribed), head)

    async def _read_missed(
        self, link: Link, starts: Logs, limit: int, found: dict[int, list[list[bytes]]]
    ) -> tuple[int, Logs]:
        """Read logs into `found`, and report the lost ones; return the offset read to, and the logs to read further."""
        _, read_to, lost_numbers, entries = await self._read(link, starts, limit)
        for entry in entries:
            # One offset may have several forms: a private message may have been edited for some of its users.
            found.setdefault(int(entry[0]), []).append(entry)
        lost = {starts[number - 1][:2] for number in lost_numbers}
        if lost:
            channels = [name for kind, name in lost if kind == "c"]
            self._events.cluster_receiver.lost(channels, [name for kind, name in lost if kind == "u"])
        rest = [
            (kind, name, max(offset, read_to)) for kind, name, offset in starts if (kind, name) not in lost
        ]
        return read_to, rest

    async def _deliver_found(self, found: dict[int, list[list[bytes]]], read_to: int) -> None:
        """Deliver the found entries up to an offset, all forms of one offset in one turn of the loop."""
        for number, offset in enumerate(sorted(offset for offset in found if offset <= read_to), start=1):
            for entry in found.pop(offset):
                self._deliver(*entry)
            if number % DELIVERED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._advance(read_to)

    async def history(self, channel: str, after: int = 0) -> list[list[bytes]]:
        """Read a visible history after an offset, with the payloads that lie beside it.

        The payloads of one answer are fetched before the next call, so that never more than these are in flight.
        """
        found: list[list[bytes]] = []
        more: int | None = after
        while more is not None:
            batch, next_after = await self.call("history", channel=channel, after=more)
            if await self._outlast_move(lambda batch=batch: self._add_payloads(self._linked(), batch)):  # type: ignore[misc]
                found += batch
                more = None if next_after is None else int(next_after)
        return found

    async def history_from(self, channel: str, first: list[list[bytes]], after: int) -> list[list[bytes]]:
        """Complete a visible history whose first entries were read without the payloads that lie beside the log.

        Args:
            after: the offset after which the rest follows; 0 if there is none.
        """
        if not await self._outlast_move(lambda: self._add_payloads(self._linked(), first)):
            return await self.history(channel)
        return first + (await self.history(channel, after) if after else [])

    async def replay(self, logs: Logs, limit: int) -> Read:
        """Read logs, each entry once. When it returns, the receiver was delivered everything up to the returned head.

        Very many logs are read by several calls. The head is that of the first call, and no call reads further than
        those before it.
        """
        head, read_to, lost, entries = await self._outlast_move(
            partial(self._replay_marked, logs[:CHUNK], limit)
        )
        for start in range(CHUNK, len(logs), CHUNK):
            batch = logs[start : start + CHUNK]
            _, read_to, more_lost, more = await self._outlast_move(
                partial(self._read_linked, batch, limit, read_to)
            )
            lost += [start + number for number in more_lost]
            entries += more
        if len(logs) > CHUNK:
            entries = sorted(
                (each for each in entries if int(each[0]) <= read_to), key=lambda each: int(each[0])
            )
            if len(entries) > limit:
                read_to = int(entries[limit][0]) - 1
        return head, read_to, lost, entries[:limit]

    async def _replay_marked(self, logs: Logs, limit: int, until_s: float | None = None) -> Read:
        link = self._linked()
        until_s = link.deadline_s if until_s is None else until_s
        async with self._replies.expect() as (token, mark):
            read = await self._read(link, logs, limit, mark=token, node=self._node.name, until_s=until_s)
            await link.await_mark(mark, until_s)
        return read

    async def _read_linked(self, logs: Logs, limit: int, read_to: int) -> Read:
        return await self._read(self._linked(), logs, limit, read_to)

    async def _read(
        self, link: Link, logs: Logs, limit: int, read_to: int | None = None, **options: Any
    ) -> Read:
        bound = {} if read_to is None else {"upto": read_to}
        head, read, lost, entries = await self._call(
            link, "replay", starts=logs, limit=min(limit, READ_AT_ONCE), **bound, **options
        )
        if await self._add_payloads(link, entries):
            return int(head), int(read), lost, entries
        _, read_to, lost, entries = await self._read(link, logs, limit, int(read))
        return int(head), read_to, lost, entries

    async def _add_payloads(self, link: Link, entries: list[list[bytes]]) -> bool:
        """Fetch the payloads beside the log; return false if one was superseded meanwhile: all must be read again."""
        with_token = [entry for entry in entries if len(entry) == FIELDS_WITH_TOKEN]
        payloads = await asyncio.gather(*(self._command(link, "HGET", *entry[-2:]) for entry in with_token))
        if None in payloads:
            return False
        for entry, payload in zip(with_token, payloads, strict=True):
            entry[-2:] = [payload]
        return True


async def failure_reason(work: Callable[[], Awaitable[None]]) -> str | None:
    """Run a periodic task of this node; return why it failed, None if it succeeded."""
    try:
        await work()
    except Unavailable as error:
        logger.debug("a periodic task has to wait: %s", error)
        return error.message
    except Exception as error:
        # If a task ended with an error, the node would have no link or lease until it is restarted.
        logger.exception("a periodic task failed")
        return str(error)
    return None
