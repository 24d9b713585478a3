"""Servers with the SQLite engine that are killed at any moment: each start has what was acknowledged before.

The file is a real one. Only the thread that writes it is played in virtual time: a write takes a while or fails, and a kill
loses what is not written yet.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain, count
from pathlib import Path
from typing import Any

from tests.simulation.crash_client import Client
from tests.simulation.crash_server import GRACE_S, Server
from tests.simulation.failure import Failure, demand
from tests.simulation.loop import VirtualLoop, turns
from tests.simulation.world import WorldClock

from channelstream.close_codes import CloseCode
from channelstream.core.channel import Channel
from channelstream.core.events import Message, Presence, UsersLeft
from channelstream.core.user import UserUpdate
from channelstream.errors import ChannelstreamError, Unavailable

CLIENTS = 8
CHANNELS: dict[str, dict[str, Any]] = {
    "a": {"notify_presence": True},
    "b": {"notify_presence": True},
    "c": {"notify_presence": True},
    "d": {},
}
STEPS = 120
WEIGHTS = {
    "connect": 12,
    "subscribe": 12,
    "unsubscribe": 8,
    "end": 4,
    "publish": 14,
    "open": 12,
    "cut": 6,
    "fail": 2,
    "wait": 12,
    "long": 2,
    "kill": 5,
    "stop": 1,
    "settle": 5,
}
"""How often each kind of step comes."""


class Crashes:
    """One run of random steps, drawn from a seed."""

    def __init__(self, seed: int, path: Path) -> None:
        self._chance = random.Random(f"crashes {seed}")
        self._path = path
        self._clock = WorldClock()
        self._numbers = count(1)
        self._messages = count()
        self._clients = [Client(number, CHANNELS) for number in range(CLIENTS)]
        self._calls: set[asyncio.Task[None]] = set()
        self._acknowledged: set[str] = set()
        self._server: Server
        self.restored = 0

    async def run(self) -> None:
        await self._start()
        try:
            await self._play()
            await self._server.stop()
        finally:
            await self._server.kill()  # Nothing is left of it after `stop`; a failure leaves its file open.

    async def _play(self) -> None:
        kinds = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS)
        for number, kind in enumerate([*kinds, "kill", "settle"]):
            client = self._chance.choice(self._clients)
            try:
                await (getattr(self, f"_{kind}")(client) or turns(0))
                await turns(self._chance.choice((0, 0, 1, 3, 8)))
                for each in self._clients:
                    each.read()
            except Failure as failure:
                failure.add_note(f"at step {number + 1}: {kind}")
                raise

    # -- servers

    async def _start(self) -> None:
        self._server = Server(self._path, next(self._numbers), self._clock, self._chance)
        await self._server.start()
        self._check_restored()

    async def _kill(self, _client: Client) -> None:
        self._note_ended()
        await self._server.kill()
        await self._restart()

    async def _stop(self, _client: Client) -> None:
        """Stop properly: the same must be there afterwards."""
        if self._calls:
            await asyncio.wait(self._calls)
        await self._server.stop()
        self._note_ended()
        await self._restart()

    async def _restart(self) -> None:
        self._calls.clear()
        for client in self._clients:
            client.drop()
            client.is_busy = False
        await turns(2)
        await asyncio.sleep(self._chance.choice((0.0, 1.0, 3600.0)))  # virtual time: costs nothing.
        await self._start()
        for client in self._clients:
            if self._chance.random() < 0.2:
                self._publish(client)
                await asyncio.sleep(0.3)  # virtual time: costs nothing.
            if self._chance.random() < 0.7:
                client.open(self._server)

    def _check_restored(self) -> None:
        for client in self._clients:
            connection = self._server.node.connection(client.conn_id)
            if client.exists is not None:
                demand((connection is not None) == client.exists, "after a restart:", _described(client))
            if connection is None:
                client.conn_id, client.exists, client.member = "", False, {}
                continue
            self.restored += 1
            for name in CHANNELS:
                is_member, known = name in connection.channels, client.member.get(name, False)
                if client.exists and known is not None:
                    demand(
                        is_member == known,
                        "member of",
                        name,
                        "after a restart:",
                        is_member,
                        _described(client),
                    )
            client.exists = True
            client.note(self._server)
        self._check_counts()
        self._check_log()

    def _check_counts(self) -> None:
        hub, registry = self._server.hub, self._server.registry
        for name, channel in registry.channels.items():
            here = Counter(member.user for member in hub.channels.get(name, ()))
            demand(channel.users == dict(here), "miscounted in", name, channel.users, dict(here))
        for name, user in registry.users.items():
            demand(user.connections == len(hub.users.get(name, ())), "connections miscounted:", name)

    def _check_log(self) -> None:
        """Joined and left alternate and lead to the members; what was acknowledged is in the log."""
        kept: set[str] = set()
        for channel in self._server.registry.channels.values():
            kept |= {entry.event.uuid for entry in channel.log.entries}
            if channel.settings.notify_presence:
                self._check_presence(channel)
        demand(self._acknowledged <= kept, "acknowledged and not kept")

    def _check_presence(self, channel: Channel) -> None:
        present: set[str] = set()
        for event in chain.from_iterable(_presences(entry.event) for entry in channel.log.entries):
            demand((event.user in present) != event.joined, "twice in a row:", event)
            (present.add if event.joined else present.discard)(event.user)
        demand(present == set(channel.users), "announced in", channel.name, present, set(channel.users))

    async def _settle(self, _client: Client) -> None:
        """Let the disk work and all calls end; then everything is certain, and no client lacks a message."""
        self._server.disk.fails_until_s = 0.0
        while self._calls:
            await asyncio.wait(self._calls)
        await asyncio.sleep(3.0)  # virtual time: an engine that has failed tries again.
        await self._server.settled()
        for client in self._clients:
            client.read()
            self._note_state(client)
            self._check_received(client)
        self._check_counts()
        self._check_log()

    def _note_state(self, client: Client) -> None:
        connection = self._server.node.connection(client.conn_id)
        client.exists = connection is not None
        client.member = {}
        client.note(self._server)

    def _check_received(self, client: Client) -> None:
        connection = self._server.node.connection(client.conn_id)
        if connection is None or not client.has_stream:
            return
        for name in connection.channels:
            bound = client.owed_after[name]
            log = self._server.registry.channels[name].log
            owed = [
                entry.offset
                for entry in log.entries
                if isinstance(entry.event, Message) and entry.offset > bound
            ]
            got = [offset for offset in client.received.get(name, ()) if offset > bound]
            demand(got == owed, client.user, "received in", name, got, "instead of", owed)

    # -- calls

    def _call(
        self, client: Client, work: Callable[[Server], Awaitable[Any]], done: Callable[[], None]
    ) -> None:
        """Carry out a call about a client's connection, one at a time; `done` notes what is certain afterwards."""
        client.is_busy, server = True, self._server
        failures = server.disk.failures

        async def call() -> None:
            try:
                await work(server)
            except Unavailable:
                return
            finally:
                client.is_busy = False
            if server.disk.failures == failures and server.disk.fails_until_s <= self._clock.steady():
                done()

        task = asyncio.get_running_loop().create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _connect(self, client: Client) -> None:
        if client.is_busy or (client.conn_id and client.exists is not False):
            return
        conn_id, names = self._server.new_id(), self._some()
        client.conn_id, client.exists, client.member = conn_id, None, dict.fromkeys(names)
        client.position, client.received, client.owed_after = str(self._server.node.position), {}, {}
        client.leaving.clear()
        client.drop()

        async def work(server: Server) -> None:
            channels = {name: CHANNELS[name] for name in names}
            await server.node.connect(conn_id, client.user, client.protocol, channels, UserUpdate({}, {}))

        def done() -> None:
            client.exists = True
            client.note(self._server)

        self._call(client, work, done)

    def _some(self) -> list[str]:
        return self._chance.sample(list(CHANNELS), self._chance.randrange(1, 4))

    def _change(self, client: Client, joins: bool) -> None:
        connection = self._server.node.connection(client.conn_id)
        if client.is_busy or connection is None:
            return
        names, conn_id = self._some(), client.conn_id
        changed = [name for name in names if (name in connection.channels) != joins]
        client.member |= dict.fromkeys(changed)
        if joins:
            for name in changed:
                client.owed_after.pop(name, None)
        else:
            client.leaving |= set(changed)

        async def work(server: Server) -> None:
            if joins:
                await server.node.subscribe(conn_id, {name: CHANNELS[name] for name in names})
            else:
                await server.node.unsubscribe(conn_id, names)

        def done() -> None:
            client.note(self._server)

        self._call(client, work, done)

    def _subscribe(self, client: Client) -> None:
        self._change(client, joins=True)

    def _unsubscribe(self, client: Client) -> None:
        self._change(client, joins=False)

    def _end(self, client: Client) -> None:
        if client.is_busy or self._server.node.connection(client.conn_id) is None:
            return
        conn_id, client.exists = client.conn_id, None

        async def work(server: Server) -> None:
            await server.node.end(conn_id, CloseCode.NORMAL, "ended")

        def done() -> None:
            client.exists = False

        self._call(client, work, done)

    def _publish(self, _client: Client) -> None:
        server = self._server
        message = Message(
            uuid=f"m{next(self._messages)}",
            channel=self._chance.choice(list(CHANNELS)),
            user="app",
            payload=b'"x"',
            timestamp="2026-01-01T00:00:00.000000",
        )

        is_known = message.channel in server.registry.channels  # Otherwise no log keeps it.

        async def publish() -> None:
            try:
                await server.node.publish([message])
            except ChannelstreamError:
                return
            if is_known:
                self._acknowledged.add(message.uuid)

        task = asyncio.get_running_loop().create_task(publish())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # -- streams and time

    def _open(self, client: Client) -> None:
        client.open(self._server)

    def _cut(self, client: Client) -> None:
        client.drop()

    def _fail(self, _client: Client) -> None:
        self._server.disk.fails_until_s = self._clock.steady() + self._chance.choice((0.1, 2.5))

    async def _wait(self, _client: Client) -> None:
        await asyncio.sleep(self._chance.choice((0.01, 0.3, 1.5)))  # virtual time: costs nothing.
        self._note_ended()

    async def _long(self, _client: Client) -> None:
        await asyncio.sleep(2 * GRACE_S)  # virtual time: costs nothing.
        self._note_ended()

    def _note_ended(self) -> None:
        """An ended grace is not acknowledged to anybody: whether it is written is certain only later."""
        for client in self._clients:
            if client.exists and self._server.node.connection(client.conn_id) is None:
                client.exists = None


def _presences(event: Any) -> list[Presence]:
    if isinstance(event, UsersLeft):
        return [single for _, single in event.split()]
    return [event] if isinstance(event, Presence) else []


def _described(client: Client) -> str:
    return f"{client.user} {client.conn_id} exists: {client.exists}, member: {client.member}"


def play(seed: int, path: Path) -> int:
    """Play a seed, and return how many connections were restored.

    Raises:
        Failure: a promise was broken.
    """
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    crashes = Crashes(seed, path)
    try:
        loop.run_until_complete(crashes.run())
        demand(not loop.faults, "a task failed:", *map(repr, loop.faults))
    except Failure as failure:
        failure.add_note(f"seed {seed} of tests/simulation/crashes.py")
        raise
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return crashes.restored
