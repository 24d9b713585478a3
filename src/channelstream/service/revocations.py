"""Tokens that are refused before they expire: those of a user that were issued up to a moment, or one by its name.

Every node has all of them in memory, so that a token is checked without a call. A new one is written to the engine's records
by time first, and then given to each node. One that does not answer makes the call fail, so that its caller repeats it. A
node that is out of reach, or that starts meanwhile, reads it from the records: before the first token, and every second
afterwards (`catch_up`); also one to which streams move with their tokens. So they outlive a restart as far as the engine
keeps anything. What it loses while nodes run, as a Redis whose replica takes over, these write again: so a node that moves
to another process takes its own with it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

import msgspec
from msgspec import Struct

from channelstream.apps.client import Client
from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.engines.base import Clock
from channelstream.engines.time_series import Record, TimeSeries
from channelstream.errors import Unavailable
from channelstream.service.remote_calls import RemoteCalls
from channelstream.shielded import result_of, retrieve
from channelstream.slices import Slices, in_turns

SERIES: Final = "revocations of application {}"
"""Each application has its own, so that none drops records of another, by their age or their number."""
PROCEDURE: Final = "revoke tokens"
MAX_REVOCATIONS: Final = 100_000
"""Most revocations at a time, in about 25 MB. Each application has an equal part; beyond it one is refused."""
SKEW_S = 60.0
"""How far the clocks of two nodes may differ, in seconds."""
SLICE = 5_000
"""Connections that are looked at in one loop turn."""
WRITTEN_AT_ONCE = 500
"""Records that are written again by one call; with Redis this takes a few ms (measured)."""


class Revocation(Struct, frozen=True, array_like=True):
    """Which tokens are refused.

    Attributes:
        is_user: the key is that of a user; else that of the name of a token.
        key: of the application.
        at_s: tokens of the user that were issued up to this moment are refused, in seconds since the epoch.
        until_s: when the last of them has expired.
    """

    is_user: bool
    key: str
    at_s: float
    until_s: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Revocation).decode
EndSoon = Callable[[Connection, CloseCode, str], object]


class Revocations:
    """The revocations, as this node knows them."""

    def __init__(
        self,
        calls: RemoteCalls,
        series: TimeSeries,
        hub: Hub,
        clock: Clock,
        end_soon: EndSoon,
        *,
        is_single: bool,
        owners: Sequence[str] = ("",),
    ) -> None:
        """Create the part of a node.

        Args:
            calls: its calls of all nodes.
            series: the engine's records by time.
            hub: its connections.
            clock: its clock.
            end_soon: ends one of these.
            is_single: no other node shares the engine.
            owners: the applications, as `hub.usage.owner_of` returns them.
        """
        self._calls = calls
        self._series = series
        self._hub = hub
        self._clock = clock
        self._end_soon = end_soon
        self._owners = owners
        self._counts: Counter[str] = Counter()
        """How many are known of each application."""
        self._known: dict[tuple[bool, str], Revocation] = {}
        self._is_single = is_single
        self._loading: asyncio.Task[None] | None = None
        self._read_s: float | None = None
        """When the engine was read last; None before the first time."""
        self._has_unchecked = False
        """Whether streams have moved here with tokens that may have been revoked meanwhile."""
        self._may_lack = False
        """Whether the engine may lack what is known here."""
        calls.register(PROCEDURE, self._answer)

    async def revoke(self, key: str, keep_s: float, *, is_user: bool) -> int:
        """Refuse tokens from now on, at all nodes, and end the connections that use them; return how many these were.

        Args:
            key: of the user, or of the name of a token.
            keep_s: how long the last of these tokens may be valid.

        Raises:
            Unavailable: a node has not answered, or there are too many revocations; the call may have taken effect.
        """
        await self.load()
        now_s, owner = self._clock.wall(), self._hub.usage.owner_of(key)
        if self._is_full(owner):
            await self._forget_expired(now_s)
        if self._is_full(owner):
            raise Unavailable("There are too many revocations; those of tokens that expire go by themselves.")
        revocation = Revocation(is_user, key, now_s, now_s + keep_s)
        await self._append_all(now_s, [revocation])
        return await self._calls.count_all(
            PROCEDURE, _encode(revocation), "A node has not taken the revocation; send it again."
        )

    async def load(self) -> None:
        """Read what the engine has, once: for all that ask meanwhile, as very many clients do after a restart.

        Raises:
            Unavailable: the engine is out of reach.
        """
        if self._read_s is None:
            if self._loading is None:
                self._loading = asyncio.get_running_loop().create_task(self._load())
                self._loading.add_done_callback(retrieve)
            await result_of(self._loading)

    async def _load(self) -> None:
        try:
            await self._read(0.0)
        finally:
            self._loading = None

    def moved_here(self, connection: Connection) -> None:
        """End a connection whose stream has moved here, if its token is refused; read soon what was revoked meanwhile.

        A call may be answered here before the stream moves, and neither process may have been reached by another node's.
        """
        client = _client_of(connection)
        if client is not None:
            self._has_unchecked = True
            self._end_refused(connection, client, self.has)

    def log_replaced(self) -> None:
        """Write soon what is known here and the engine has lost."""
        self._may_lack = True

    def moved(self) -> list[Revocation]:
        """Return those for another process: all, since a shared engine may lose some; one that moves itself needs none."""
        return [] if self._is_single else list(self._known.values())

    def restore(self, moved: Iterable[Revocation]) -> None:
        """Take those of another process, and write soon what the engine lacks of them."""
        for each in moved:
            self._may_lack |= self._take(each)

    async def catch_up(self) -> None:
        """Read what the engine has since the last time, and end the connections that it is about.

        Does nothing at a node to which no token has come, and where no other node shares the engine.

        Raises:
            Unavailable: the engine is out of reach.
        """
        if self._has_unchecked:
            await self.load()
            self._has_unchecked = False
            await self._end_of_clients(self._hub.connections.values(), self.has)
        if self._is_single:
            return
        if self._may_lack:
            await self._write_again()
        if self._read_s is not None:
            for revocation in await self._read(self._read_s - SKEW_S):
                await self._end_all(revocation)

    async def _write_again(self) -> None:
        """Write what the engine lacks of what is known here; other nodes do so as well, so a record may be there twice.

        The records are of now, so that all nodes read them, and are kept as long as new ones: a shorter time would drop
        others. One that is read after its tokens have expired refuses none that counts.
        """
        self._may_lack = False
        try:
            now_s, slices = self._clock.wall(), Slices(self._clock.steady)
            lacking = dict[bytes, Revocation]()

            def add(each: Revocation) -> None:
                if each.until_s > now_s:
                    lacking[_encode(each)] = each

            await slices.each(list(self._known.values()), add)
            for owner in self._owners if lacking else ():
                records = await self._records(owner, 0.0)
                await slices.each(records, lambda record: lacking.pop(record.data, None))
            async for part in in_turns(list(lacking.values()), WRITTEN_AT_ONCE):
                await self._append_all(now_s, part)
        except BaseException:
            self._may_lack = True
            raise

    async def _append_all(self, now_s: float, revocations: Iterable[Revocation]) -> None:
        of_owners: dict[str, list[Revocation]] = {}
        for each in revocations:
            of_owners.setdefault(self._hub.usage.owner_of(each.key), []).append(each)
        for owner, own in of_owners.items():
            records = [Record(now_s, _encode(each)) for each in own]
            keep_s = max(each.until_s - each.at_s for each in own)
            await self._series.append_all(SERIES.format(owner), records, keep_s)

    async def _read(self, since_s: float) -> list[Revocation]:
        """Take the records from a time on; return those that were not known."""
        now_s, slices = self._clock.wall(), Slices(self._clock.steady)
        read = await asyncio.gather(*(self._records(each, since_s) for each in self._owners))
        records = list(chain.from_iterable(read))
        found: list[Revocation] = []

        def take(record: Record) -> None:
            if self._take(each := _decode(record.data)):
                found.append(each)

        await slices.each(records, take)
        self._read_s = now_s
        return found

    async def _records(self, owner: str, since_s: float) -> list[Record]:
        return await self._series.read(SERIES.format(owner), since_s, MAX_REVOCATIONS)

    def has(self, client: Client) -> bool:
        """Whether the token of a client is refused."""
        if client.token_id and (False, client.app.key(client.token_id)) in self._known:
            return True
        found = self._known.get((True, client.app.key(client.user)))
        return found is not None and (client.issued_s is None or client.issued_s <= found.at_s)

    def _take(self, revocation: Revocation) -> bool:
        """Keep a revocation; return whether it was not known."""
        place = (revocation.is_user, revocation.key)
        before = self._known.get(place)
        if before is not None and before.at_s >= revocation.at_s:
            return False
        if before is None:
            self._counts[self._hub.usage.owner_of(revocation.key)] += 1
        self._known[place] = revocation
        return True

    def _is_full(self, owner: str) -> bool:
        return self._counts[owner] >= MAX_REVOCATIONS // len(self._owners)

    async def _forget_expired(self, now_s: float) -> None:
        """Forget the revocations whose tokens have all expired."""

        def forget(place: tuple[bool, str]) -> None:
            known = self._known.get(place)
            if known is not None and known.until_s <= now_s:
                del self._known[place]
                self._counts[self._hub.usage.owner_of(known.key)] -= 1

        await Slices(self._clock.steady).each(list(self._known), forget)

    async def _answer(self, argument: bytes) -> bytes:
        """Take a revocation of a node."""
        revocation = _decode(argument)
        self._take(revocation)
        return _encode(await self._end_all(revocation))

    async def _end_all(self, revocation: Revocation) -> int:
        """End the connections of this node that a revocation is about; return how many these are."""
        connections: Iterable[Connection] = self._hub.connections.values()
        if revocation.is_user:
            connections = self._hub.users.get(revocation.key, ())
        return await self._end_of_clients(connections, self.has)

    async def end_refused(self, accepts: Callable[[Client], bool]) -> None:
        """End the connections of this node whose streams were opened with tokens that are not accepted any more."""
        await self._end_of_clients(self._hub.connections.values(), lambda client: not accepts(client))

    async def _end_of_clients(
        self, connections: Iterable[Connection], is_refused: Callable[[Client], bool]
    ) -> int:
        """End those of the connections whose clients are refused; return how many these are."""
        ended = 0
        async for part in in_turns(list(connections), SLICE):
            for connection in part:
                client = _client_of(connection)
                ended += client is not None and self._end_refused(connection, client, is_refused)
        return ended

    def _end_refused(
        self, connection: Connection, client: Client, is_refused: Callable[[Client], bool]
    ) -> bool:
        """End a connection if its client is refused; return whether it is."""
        if not is_refused(client):
            return False
        self._end_soon(connection, CloseCode.TOKEN_EXPIRED, "token revoked")
        return True


def _client_of(connection: Connection) -> Client | None:
    """Return the client whose token has opened the stream of a connection.

    `core.connection.Stream` cannot have the field, since core knows no clients; a stream that takes no tokens has none.
    """
    client: Client | None = getattr(connection.stream, "client", None)
    return client
