"""One run: the steps of a script, and the checks after each."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from msgspec.structs import replace
from tests.simulation.bounds import MemoryChecker
from tests.simulation.checker import Checker
from tests.simulation.client import Client
from tests.simulation.failure import Failure, demand
from tests.simulation.loop import MeasuredLoop, kill_others, turns
from tests.simulation.script import Step
from tests.simulation.world import Bounds, World, WorldClock

from channelstream.close_codes import CloseCode
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.errors import ChannelstreamError
from channelstream.wire.channelstream import V07

CLIENTS = 7
FRESH: dict[str, dict[str, Any]] = {
    "a": {"notify_presence": True},
    "b": {"notify_presence": True, "broadcast_presence_with_user_lists": True, "log_events": 3},
    "c": {"notify_state": True},
    "d": {"store_history": True, "history_size": 3},
    "e": {"notify_state": True},
}
"""Settings with which each channel begins."""
CHANGES: tuple[dict[str, Any], ...] = (
    {"log_events": 2},
    {"log_events": 1000},
    {"log_age_s": 1.0},
    {"log_age_s": 600.0},
    {"store_frames": False},
    {"store_frames": True},
    {"store_history": True, "history_size": 2},
    {"store_history": False},
)
SETTLE_S = 2.0
SETTLE_ROUNDS = 300


class Simulation:
    """All that one run consists of.

    Attributes:
        fresh: settings with which each channel begins, by its name.
    """

    fresh = FRESH

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"world {seed}")
        self.bounds = Bounds.choose(self.chance)
        self.checker = self._make_checker()
        self.memory_checker = MemoryChecker(self.bounds)
        self.clients = [self._make_client(number) for number in range(CLIENTS)]
        self.clock = WorldClock()
        self.world: World
        self._worlds = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._published: list[Message] = []
        self._edits = 0

    def _make_checker(self) -> Checker:
        return Checker()

    def _make_client(self, number: int) -> Client:
        return Client(number, self.checker, self.bounds)

    async def run(self, script: list[Step], loop: MeasuredLoop) -> None:
        """Play the script.

        Raises:
            Failure: a promise was broken; its first note says at which step.
        """
        await self._begin()
        for number, step in enumerate([*script, Step("settle", 0, 0, 0)]):
            loop.steps.part = f"at step {number + 1}: {step}"
            try:
                await self._play(step)
                _no_faults(loop.faults)
            except Failure as failure:
                failure.add_note(loop.steps.part)
                raise
        await self.world.stop()

    async def _play(self, step: Step) -> None:
        client, chance = self.clients[step.who % CLIENTS], random.Random(step.what)
        done = getattr(self, f"_{step.kind}")(client, chance)
        if done is not None:
            await done
        await turns(step.locks)
        for each in self.clients:
            if not each.stalled:
                each.flow()
        self._check()

    def _check(self) -> None:
        for failure in self.world.failures:
            raise failure
        self.world.truth.note_births(self.world.offset)
        self.memory_checker.check(self.world, self.clock.steady())
        for client in self.clients:
            watch = client.watch
            if watch and watch.since is None and not watch.starts:
                watch.observe()

    def _call(self, work: Coroutine[Any, Any, Any], client: Client | None = None) -> None:
        """Execute a request of the application, while other things happen."""

        async def call() -> None:
            try:
                await work
            except ChannelstreamError:
                pass  # The application gets the error; nothing has changed.
            finally:
                if client is not None:
                    client.calls -= 1

        if client is not None:
            client.calls += 1
        task = asyncio.get_running_loop().create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        task.add_done_callback(lambda _: work.close())

    # -- the server

    async def _begin(self) -> None:
        self._worlds += 1
        self.world = self._make_world(self._worlds)
        await self.world.start()
        for client in self.clients:
            client.world = self.world
            client.connection = None

    def _make_world(self, number: int) -> World:
        return World(number, self.bounds, self.clock, self.chance)

    async def _restart(self, _client: Client, _chance: random.Random) -> None:
        """Kill the process: its pending work is lost."""
        await kill_others()
        for client in self.clients:
            client.drop()
        await turns(3)
        await self.world.stop()
        await self._begin()

    async def _pass(self, _client: Client, chance: random.Random) -> None:
        await asyncio.sleep(chance.choice((0.1, 1.0, 4.0, 12.0, 40.0)))  # virtual time: costs nothing.

    def _jump(self, _client: Client, chance: random.Random) -> None:
        self.clock.offset_s += chance.choice((-100_000, -5, 5, 100_000))

    async def _settle(self, _client: Client, _chance: random.Random) -> None:
        """Let every line flow until nothing more comes, and check that no client waits."""
        for client in self.clients:
            client.stalled = False
        quiet = rounds = 0
        while quiet < 3:
            rounds += 1
            demand(rounds < SETTLE_ROUNDS, "it never comes to rest")
            await asyncio.sleep(SETTLE_S / 10)  # virtual time: costs nothing.
            moved = [client.flow() for client in self.clients]
            quiet = 0 if any(moved) or self._calls or not self.world.rests else quiet + 1
        self.checker.settled(client.watch for client in self.clients if client.watch)
        self.memory_checker.check_settled(self.world)

    # -- clients

    def _open(self, client: Client, chance: random.Random) -> None:
        transport = chance.choice(("ws", "sse", "poll"))
        since = self._since(client, chance)
        if client.connection is not None:
            client.attach(transport, since)
        elif not client.busy:
            channels = {name: self.fresh[name] for name in self._some(chance)}
            named = self._named(client, chance)
            self._call(self._connect(client, channels, transport, since, named), client)

    async def _connect(
        self, client: Client, channels: dict[str, Any], transport: str, since: str | None, named: str
    ) -> None:
        update = UserUpdate({}, {"colour": "red"}, ("colour",))
        node, conn_id = self.world.node, self.world.new_id()
        if node.connect_at_once(Member(conn_id, client.user, V07), channels, update, named) is None:
            conn_id = node.draw_id(client.user, node.new_id)
            await node.connect(conn_id, client.user, V07, channels, update, named, is_drawn=True)
        client.connection = node.connection(conn_id)
        client.calls -= 1
        if client.connection is not None:
            client.attach(transport, since)
        client.calls += 1

    def _since(self, client: Client, chance: random.Random) -> str | None:
        """Mostly the truth; sometimes none, nothing, or a lie."""
        return chance.choices((client.position, None, self._lie(chance)), (8, 1, 2))[0]

    def _named(self, client: Client, chance: random.Random) -> str:
        """The position that the application names for a client that joins: none, the client's own, or one that it claims."""
        return chance.choices((client.position, "", self._lie(chance)), (4, 4, 2))[0]

    def _lie(self, chance: random.Random) -> str:
        epoch, offset = self.world.truth.epoch, self.world.offset
        lies = (
            "garbage",
            "other-7",
            f"{epoch}-{offset + 5}",
            f"{epoch}-0",
            f"{epoch}-{offset // 2}",
            f"{epoch}-{offset - chance.randrange(1, 9)}",
            f"{epoch}-{offset}",
            "",
        )
        return chance.choice(lies)

    @property
    def _channels(self) -> tuple[str, ...]:
        return tuple(self.fresh)

    def _some(self, chance: random.Random) -> list[str]:
        return chance.sample(self._channels, chance.randrange(1, 4))

    def _again(self, client: Client, chance: random.Random) -> None:
        """Call `/connect` once more, whatever else is under way."""
        if client.connection is not None:
            channels = {name: self.fresh[name] for name in self._some(chance)}
            update = UserUpdate({"mood": chance.randrange(3)}, {})
            conn_id, named = client.connection.id, self._named(client, chance)
            call = self.world.node.connect(conn_id, client.user, V07, channels, update, named)
            self._call(call, client)

    def _subscribe(self, client: Client, chance: random.Random) -> None:
        if client.connection is not None:
            channels = {name: self.fresh[name] for name in self._some(chance)}
            named = self._named(client, chance)
            self._call(self.world.node.subscribe(client.connection.id, channels, named), client)

    def _unsubscribe(self, client: Client, chance: random.Random) -> None:
        if client.connection is not None:
            names = self._some(chance)
            self._call(self.world.node.unsubscribe(client.connection.id, names), client)

    def _cut(self, client: Client, chance: random.Random) -> None:
        client.cut(chance)

    def _stall(self, client: Client, _chance: random.Random) -> None:
        client.stalled = True

    def _trickle(self, client: Client, chance: random.Random) -> None:
        client.stalled = True
        client.flow(chance.randrange(1, 300))

    def _flow(self, client: Client, _chance: random.Random) -> None:
        client.stalled = False

    def _leave(self, client: Client, chance: random.Random) -> None:
        if client.connection is None:
            return
        if chance.random() < 0.5:
            client.part()
        else:
            self._call(self.world.node.end(client.connection.id, CloseCode.NORMAL, "ended"), client)

    def _exodus(self, _client: Client, chance: random.Random) -> None:
        """Have several connections end at once: their clients close them, or their time is over."""
        node = self.world.node
        for each in chance.sample(self.clients, chance.randrange(2, CLIENTS)):
            if each.connection is not None and node.connection(each.connection.id) is each.connection:
                if chance.random() < 0.5:
                    each.part()
                else:
                    node.local.departures.end_soon(
                        each.connection, CloseCode.UNKNOWN_CONNECTION, "ended with others"
                    )

    # -- publishers

    def _publish(self, _client: Client, chance: random.Random) -> None:
        events: list[Event] = [self._message(chance) for _ in range(chance.choice((1, 1, 2, 9)))]
        if self._published and chance.random() < 0.1:
            again = chance.choice(self._published[-10:])
            further = frozenset({chance.choice(self.clients).user})
            events.append(
                replace(again, only=again.only | further) if again.only and chance.random() < 0.5 else again
            )
        self._call(self._accepted(events))

    def _message(self, chance: random.Random) -> Message:
        users = [client.user for client in self.clients[:4]]
        private = chance.random() < 0.2
        message = Message(
            uuid=self.world.new_id(),
            channel=None if private else chance.choice(self._channels),
            only=frozenset(chance.sample(users, 2)) if private or chance.random() < 0.1 else None,
            exclude=frozenset(chance.sample(users, 1)) if chance.random() < 0.15 else None,
            user="app",
            payload=b'"%b"' % (b"x" * chance.choice((1, 1, 50, 900))),
            timestamp="2026-01-01T00:00:00.000000",
        )
        self._published.append(message)
        return message

    def _amend(self, _client: Client, chance: random.Random) -> None:
        if not self._published:
            return
        message = chance.choice(self._published[-8:])
        place = {
            "uuid": message.uuid,
            "channel": message.channel,
            "only": message.only,
            "exclude": message.exclude,
        }
        if message.channel is not None and chance.random() < 0.2:
            place["exclude"] = frozenset({chance.choice(self.clients).user})
        if chance.random() < 0.15:
            place["only"] = frozenset({chance.choice(self.clients).user})
        self._edits += 1
        text = None if chance.random() < 0.1 else b'"edit %d"' % self._edits
        edit = MessageEdited(**place, edited="2026-01-01T00:00:01.000000", user="eve", payload=text)
        event: Event = edit if chance.random() < 0.6 else MessageDeleted(**place)
        self._call(self._accepted([event]))

    async def _accepted(self, events: list[Event]) -> None:
        node, first = self.world.node, events[0]
        is_alone = len(events) == 1 and isinstance(first, Message) and first.only is None
        at_once = node.publish_at_once(first) if is_alone else None
        for each in [at_once] if at_once else await node.publish(events):
            known = each.duplicate or (type(each.event), each.event.uuid) in self.world.truth.events
            demand(known, "acknowledged and not accepted:", each.event)

    def _state(self, client: Client, chance: random.Random) -> None:
        update = UserUpdate({"colour": chance.choice(("red", "blue"))}, {}, None, ("colour",))
        self._call(self.world.node.update_user(client.user, update))

    def _configure(self, _client: Client, chance: random.Random) -> None:
        patch = {chance.choice(self._channels): chance.choice(CHANGES)}
        self._call(self.world.node.configure(patch))


def _no_faults(faults: list[BaseException]) -> None:
    for fault in faults:
        if isinstance(fault, Failure):
            raise fault
        demand(False, "a task failed:", repr(fault))
