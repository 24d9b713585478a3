"""The engine port on Redis: what each method asks of the script, and how answers and news become entries.

What it promises is in docs/engines.md.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from channelstream.core.channel import Channel
from channelstream.core.events import Dialect, Event
from channelstream.core.log import Entry
from channelstream.core.position import Position
from channelstream.core.registry import RegistryLimits
from channelstream.core.user import MAX_STATE_KEYS, User
from channelstream.engines.base import (
    PRIVATE,
    Accepted,
    Claim,
    Clock,
    Member,
    Receiver,
    Replay,
    UserChange,
    UserUpdate,
)
from channelstream.engines.ledger import Lifetimes
from channelstream.engines.redis import codec
from channelstream.engines.redis.keeper import Keeper
from channelstream.engines.redis.link import Link
from channelstream.errors import ConfigError, Invalid, Unavailable

PREFIX = "{channelstream}:"
"""Of all keys and channels; the braces keep them together in a cluster."""
CHUNK = 200
"""Channels or users read by one call, and logs by one call while healing."""
COLLECT_AT_ONCE = 100
HEAL_EVENTS = 100_000
"""Events delivered late after an outage; of channels that would need more, all is lost."""
ASK_TIMEOUT_S = 2.0
"""How long another node may take to obey."""
ANOTHER_SERVER = (NoScriptError, ReadOnlyError, MasterDownError, MovedError, AskError, ClusterDownError)
"""Answers after which the node connects anew: the server has changed its part, or was another one all along."""
BUSY = ("BUSY", "MISCONF")
"""How answers begin with which Redis, like with OutOfMemoryError, only says that it cannot do it now."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How a node lives with Redis.

    Attributes:
        timeout_s: how long any answer of Redis may take before it counts as out of reach.
        lease_s: how long the connections of a node that has died are kept.
    """

    timeout_s: float = 5.0
    lease_s: float = 10.0


class RedisEngine:
    """One node's part of the log that all nodes share."""

    name = "redis"
    shared = True

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        limits: RegistryLimits,
        lifetimes: Lifetimes,
        new_id: Callable[[], str],
        new_epoch: Callable[[], str],
        settings: RedisSettings,
        clock: Clock | None = None,
    ) -> None:
        """Create an engine that is not connected.

        Args:
            connect: makes a connection that is not connected yet.
            new_id: makes the node's name, and tokens.
            clock: for the ages of what is kept; None means that of Redis, which all nodes share.
        """
        self.node = new_id()
        self._connect = connect
        self._limits = limits
        self._lifetimes = lifetimes
        self._new_id = new_id
        self._new_epoch = new_epoch
        self._settings = settings
        self._clock = clock
        self._bounds = codec.write_bounds(limits, MAX_STATE_KEYS)
        self._epoch = ""
        self._seq = 0
        self._link: Link | None = None
        self._distrust = False
        self._watched: dict[str, int] = {}
        self._unwanted: set[str] = set()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper = Keeper(self, settings.lease_s)
        self._receiver: Receiver

    @property
    def position(self) -> Position:
        return Position.single(self._epoch, self._seq)

    async def head(self) -> Position:
        return Position.single(self._epoch, int(await self.call("head")))

    # -- connected

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        try:
            await self.establish()
        except Unavailable as error:
            raise ConfigError(f"engine: {error.message}") from error
        self._keeper.start()

    async def close(self) -> None:
        await self._keeper.stop()
        for task in list(self._tasks):
            task.cancel()
        await self._let_go()

    async def broken(self) -> None:
        """Wait until Redis is out of reach, and let go of what is left of the link."""
        if self._link is not None:
            await self._link.broken.wait()
            await self._let_go()

    async def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def establish(self) -> None:
        """Connect, in place of an older link, and deliver what was missed since the last time.

        Raises:
            Unavailable: it did not work.
        """
        await self._let_go()
        link = Link(self._connect, PREFIX, self._heard, self._settings.timeout_s)
        try:
            await link.open()
            await link.subscribe([f"#n:{self.node}", "#all", *self._watched])
            await self._hello(link)
            link.listen()
        except BaseException as error:
            await link.close()
            if isinstance(error, ResponseError):
                raise Unavailable(f"Redis is of no use now: {error}") from error
            raise
        self._link = link

    async def _hello(self, link: Link) -> None:
        """Learn which log there is; heal what was missed of the one this node knows, or begin with another one."""
        epoch, seq = await link.call(
            "",
            "",
            "hello",
            candidate=self._new_epoch(),
            run=link.run,
            known_epoch=self._epoch,
            known_seq=self._seq,
            distrust=self._distrust,
        )
        self._distrust = False
        if epoch.decode() == self._epoch:
            await self._heal(link)
            return
        is_first = not self._epoch
        self._epoch, self._seq = epoch.decode(), int(seq)
        self._watched = dict.fromkeys(self._watched, -1)
        if not is_first:
            logger.warning("the log in Redis is another one: clients are told that everything is lost")
            self._receiver.renewed(0, (self._seq,))

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Run an operation of the script in the log this node knows.

        Raises:
            Unavailable: Redis is out of reach, or its log is another one by now.
        """
        if self._link is None:
            raise Unavailable("Redis is out of reach; try again later.")
        return await self._call(self._link, operation, **arguments)

    async def _call(self, link: Link, operation: str, **arguments: Any) -> Any:
        now_ms = "" if self._clock is None else f"{self._clock.wall() * 1000:.0f}"
        try:
            return await link.call(self._epoch, now_ms, operation, **arguments)
        except ResponseError as error:
            if str(error).startswith("EPOCH") or isinstance(error, ANOTHER_SERVER):
                link.abandon()
            elif not isinstance(error, OutOfMemoryError) and not str(error).startswith(BUSY):
                raise
            raise Unavailable(f"Redis cannot do that now: {error}") from error

    # -- news

    def _heard(self, name: bytes, data: bytes) -> None:
        kind = name.partition(b":")[0]
        if kind in (b"#c", b"#u"):
            self._heard_entry(name.decode(), data)
        elif kind == b"#n":
            self._heard_note(*data.split(b" ", 1))
        elif data.partition(b" ")[2].decode() != self._epoch and self._link is not None:
            self._link.abandon()

    def _heard_entry(self, name: str, data: bytes) -> None:
        seq, previous, at_ms, json = data.split(b" ", 3)
        number, seen = int(seq), self._watched.get(name, -1)
        if -1 < seen < int(previous) and int(previous) > self._seq:
            # Redis never does that to a living subscription: whatever has done it, no position is safe any more.
            self._distrust = True
            if self._link is not None:
                self._link.abandon()
            return
        if name in self._watched:
            self._watched[name] = number
        if number > self._seq:  # A private message is published once for each of its users.
            self._deliver(codec.read_entry(self._epoch, seq, at_ms, json))

    def _deliver(self, entry: Entry) -> None:
        self._seq = entry.seq
        self._receiver.deliver(entry)

    def _advance(self, seq: int) -> None:
        if seq > self._seq:
            self._seq = seq
            self._receiver.advance((seq,))

    def _heard_note(self, kind: bytes, rest: bytes) -> None:
        """Hear what is meant for this node alone."""
        if kind == b"yielded":
            self._receiver.yielded(rest.decode())
        elif kind == b"ask":
            node, token, command = rest.split(b" ", 2)
            self._run(self._answer(node.decode(), token.decode(), command))
        else:
            token, _, told = rest.partition(b" ")
            if kind == b"mark":
                self._advance(int(told))
            waiting = self._waiting.pop(token, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(told)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, node: str, token: str, command: bytes) -> None:
        try:
            await self.call("reply", node=node, token=token, blob=await self._receiver.obey(command))
        except Unavailable as error:
            logger.warning("a command of another node was not answered: %s", error)

    @asynccontextmanager
    async def _awaiting(self) -> AsyncIterator[tuple[str, "asyncio.Future[bytes]"]]:
        """Make a token, and a future for the note that will carry it."""
        token = self._new_id()
        note: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token.encode()] = note
        try:
            yield token, note
        except TimeoutError:
            raise Unavailable("No answer came in time; try again later.") from None
        finally:
            self._waiting.pop(token.encode(), None)

    # -- watching

    async def _watch(self, names: Sequence[str]) -> list[str]:
        """Hear these from now on; return those that were not heard before."""
        new = [name for name in names if name not in self._watched]
        if self._link is None:
            raise Unavailable("Redis is out of reach; try again later.")
        if new:
            await self._link.subscribe(new)
            self._watched |= {name: -1 for name in new if name not in self._watched}
        return new

    async def _forget_unwanted(self) -> None:
        """Hear no longer what has had no member here for two collections."""
        unwanted = {name for name in self._watched if not self._is_wanted(name)}
        gone = unwanted & self._unwanted
        self._unwanted = unwanted - gone
        for name in gone:
            del self._watched[name]
        if gone and self._link is not None:
            await self._link.unsubscribe(gone)

    def _is_wanted(self, name: str) -> bool:
        kind, _, rest = name.partition(":")
        return self._receiver.has_channel(rest) if kind == "#c" else self._receiver.has_user(rest)

    async def _heal(self, link: Link) -> None:
        """Deliver what was published while the link was down, in the order of the log."""
        starts = [(name[1], name[3:], max(self._seq, seen)) for name, seen in self._watched.items()]
        entries: dict[int, Entry] = {}
        lost: list[tuple[str, str]] = []
        head = self._seq
        for start in range(0, len(starts), CHUNK):
            some = starts[start : start + CHUNK]
            found, gone, head = await self._missed(link, some, HEAL_EVENTS - len(entries))
            entries |= found
            lost += gone
        if lost:
            channels = [name for kind, name in lost if kind == "c"]
            self._receiver.lost(channels, [name for kind, name in lost if kind == "u"])
        for seq in sorted(entries):
            self._deliver(entries[seq])
        self._advance(head)

    async def _missed(
        self, link: Link, starts: Sequence[tuple[str, str, int]], room: int
    ) -> tuple[dict[int, Entry], list[tuple[str, str]], int]:
        """Return entries by number, what cannot be read any more, and the log's head."""
        found: dict[int, Entry] = {}
        lost: dict[tuple[str, str], None] = {}
        while True:
            answer = await self._call(link, "replay", starts=starts, limit=1000, mark=False, node=self.node)
            head, upto, gone, entries = int(answer[0]), int(answer[1]), answer[2], answer[3]
            lost |= {starts[number - 1][:2]: None for number in gone}
            found |= {int(entry[0]): codec.read_entry(self._epoch, *entry) for entry in entries}
            if len(found) > room:
                return {}, [start[:2] for start in starts], head
            if upto == head:
                return found, list(lost), head
            starts = [(kind, name, max(seq, upto)) for kind, name, seq in starts]

    # -- the log

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        if not events:
            return []
        answers = await self.call("publish", events=[codec.write_event(event) for event in events])
        return [self._accepted(event, answer) for event, answer in zip(events, answers, strict=True)]

    def _accepted(self, event: Event, answer: Sequence[bytes]) -> Accepted:
        if answer[0] != b"repeated":
            return Accepted(event, repeated=False, found=answer[0] == b"found")
        _, kept, form = answer
        first = codec.read_shown(self._epoch, kept).event if form else codec.read_event(kept)
        return Accepted(first, repeated=True, found=True)

    async def replay(self, user: str, starts: Mapping[str, int], limit: int) -> Replay:
        names = list(starts)
        wanted = [
            ("u", user, start) if name == PRIVATE else ("c", name, start) for name, start in starts.items()
        ]
        async with self._awaiting() as (token, note):
            head, upto, lost, entries = await self.call(
                "replay", starts=wanted, limit=limit, mark=token, node=self.node
            )
            await asyncio.wait_for(note, self._settings.timeout_s)
        found = [codec.read_entry(self._epoch, *entry) for entry in entries]
        return Replay(found, frozenset(names[number - 1] for number in lost), (int(upto),), (int(head),))

    # -- connections

    async def connect(self, member: Member, update: UserUpdate) -> UserChange | None:
        await self._watch([f"#u:{member.user}"])
        answer = await self.call("connect", **self._of(member), update=_update(update), bounds=self._bounds)
        return None if answer == b"taken" else _changed(answer)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        await self.call("disconnect", conn_id=member.conn_id, node=self.node)

    async def join(self, member: Member, channels: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        if not channels:
            return {}
        new = await self._watch([f"#c:{name}" for name in channels])
        patches = [(name, dict(patch)) for name, patch in channels.items()]
        answer = await self.call("join", **self._of(member), channels=patches, bounds=self._bounds)
        if answer == b"gone":
            raise Unavailable("This connection is no longer here; try again.")
        for name in new:
            self._watched[name] = max(self._watched.get(name, -1), int(answer))
        return dict.fromkeys(channels, int(answer))

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        if channels:
            await self.call("leave", **self._of(member), channels=list(channels))

    def _of(self, member: Member) -> dict[str, Any]:
        is_seed = member.dialect is Dialect.SEED
        return {"conn_id": member.conn_id, "node": self.node, "user": member.user, "seed": is_seed}

    async def restore(self, conn_id: str) -> None:
        """Count a connection of this node anew after Redis, or the other nodes, have forgotten it."""
        held = self._receiver.membership(conn_id)
        if held is None:
            return
        member, channels = held
        patches: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in channels]
        if not await self.call("restore", **self._of(member), channels=patches, bounds=self._bounds):
            self._receiver.yielded(conn_id)

    def held(self) -> set[str]:
        """Return the ids of the connections this node holds."""
        return set(self._receiver.held())

    async def registered(self) -> set[str]:
        """Return the ids of the connections Redis counts for this node."""
        if self._link is None:
            raise Unavailable("Redis is out of reach; try again later.")
        found: set[str] = set()
        cursor = b"0"
        while True:
            cursor, some = await self._link.command("SSCAN", f"{PREFIX}nk:{self.node}", cursor, "COUNT", 1000)
            found |= {conn_id.decode() for conn_id in some}
            if cursor == b"0":
                return found

    # -- settings and state

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        wanted = [(name, dict(patch)) for name, patch in patches.items()]
        await self.call("configure", channels=wanted, bounds=self._bounds)

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        answer = await self.call("update_user", user=name, update=_update(update), bounds=self._bounds)
        return None if answer is None else _changed(answer)

    async def channels(self, names: Sequence[str] | None) -> list[Channel]:
        return [codec.read_channel(self._epoch, each) for each in await self._read("channels", "c", names)]

    async def users(self, names: Sequence[str] | None) -> list[User]:
        return [codec.read_user(each) for each in await self._read("users", "u", names)]

    async def _read(self, operation: str, kind: str, names: Sequence[str] | None) -> list[Any]:
        if names is None:
            if self._link is None:
                raise Unavailable("Redis is out of reach; try again later.")
            known = await self._link.command("SMEMBERS", f"{PREFIX}known:{kind}")
            names = sorted(name.decode() for name in known)
        found: list[Any] = []
        for start in range(0, len(names), CHUNK):
            found += await self.call(operation, names=list(names[start : start + CHUNK]))
        return found

    # -- other nodes

    async def members(self, channel: str) -> list[Member]:
        answer = await self.call("members", channel=channel)
        return [Member(conn_id.decode(), user.decode(), Dialect.V07) for conn_id, user in codec.pairs(answer)]

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        async with self._awaiting() as (token, note):
            heard = await self.call("ask", conn_id=conn_id, node=self.node, token=token, blob=command)
            return None if heard <= 0 else await asyncio.wait_for(note, ASK_TIMEOUT_S)

    async def claim(self, conn_id: str) -> Claim | None:
        answer = await self.call("claim", conn_id=conn_id, node=self.node)
        if answer is None:
            return None
        user, seed, seq, channels = answer
        joined = {name.decode(): int(number) for name, number in codec.pairs(channels)}
        member = Member(conn_id, user.decode(), Dialect.SEED if seed else Dialect.V07)
        await self._watch([f"#u:{member.user}", *(f"#c:{name}" for name in joined)])
        return Claim(member, joined, (int(seq),))

    async def collect(self) -> None:
        await self._forget_unwanted()
        after = (("u", self._lifetimes.users_s), ("c", self._lifetimes.channels_s))
        rules = [(kind, seconds * 1000) for kind, seconds in after if seconds]
        while await self.call("collect", rules=rules, count=COLLECT_AT_ONCE) == COLLECT_AT_ONCE:
            pass


def _update(update: UserUpdate) -> dict[str, Any]:
    keys = update.public_keys
    return {
        "values": codec.write_state(update.values),
        "fresh": codec.write_state(update.fresh),
        "public_keys": False if keys is None else [codec.write_key(key) for key in dict.fromkeys(keys)],
        "add_public": [codec.write_key(key) for key in update.add_public],
    }


def _changed(answer: Any) -> UserChange:
    if answer == b"full":
        raise Invalid({"user_state": [f"A user's state may have at most {MAX_STATE_KEYS} keys."]})
    user, changed, seq = answer
    return UserChange(codec.read_user(user), codec.read_changed(changed), (int(seq),))
