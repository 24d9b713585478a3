"""A run whose clients have tokens, and act for themselves."""

import asyncio
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.simulation.client import Client
from tests.simulation.failure import demand
from tests.simulation.report import Play
from tests.simulation.simulation import Simulation
from tests.simulation.token_client import TokenClient
from tests.simulation.token_model import GRANTS, MAX_AGE_S, Revocation, Token
from tests.simulation.token_stream import Command, ObservedPoll
from tests.simulation.token_watch import TokenChecker
from tests.simulation.token_world import TokenWorld

from channelstream.core.events import Message
from channelstream.transports import routes

FRESH: dict[str, dict[str, Any]] = {
    "news": {"notify_presence": True},
    "hall": {"store_history": True, "history_size": 3, "log_events": 3},
    "room.1": {"notify_presence": True, "store_history": True, "history_size": 3},
    "room.2": {"notify_state": True},
    "room.1.chat": {},
}
"""Settings with which each channel begins."""

WEIGHTS = {
    "open": 16,
    "publish": 22,
    "amend": 6,
    "command": 26,
    "commands": 5,
    "revoke": 1.5,
    "cut": 8,
    "stall": 6,
    "trickle": 5,
    "flow": 8,
    "leave": 1.5,
    "exodus": 0.7,
    "state": 2,
    "configure": 3,
    "pass": 3,
    "restart": 0.4,
    "settle": 2.5,
}
"""How often each kind of step comes; the wall clock never jumps, since tokens are about it."""
KINDS = {"subscribe": 10, "unsubscribe": 4, "publish": 8, "refresh": 5, "info": 2, "state": 2}
SUBSCRIBING = {"subscribe": 3, "unsubscribe": 2}
"""How often each command comes; of clients that read what they have missed."""


class TokenSimulation(Simulation):
    """All that one such run consists of."""

    fresh = FRESH
    kinds: Mapping[str, float] = KINDS
    world: TokenWorld
    clients: list[TokenClient]  # type: ignore[assignment]

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seen = 0

    def _make_checker(self) -> TokenChecker:
        return TokenChecker()

    def _make_client(self, number: int) -> TokenClient:
        return TokenClient(number, self.checker, self.bounds)

    def _make_world(self, number: int) -> TokenWorld:
        self._seen = 0
        return TokenWorld(number, self.bounds, self.clock, self.chance, self.fresh)

    async def _begin(self) -> None:
        await super()._begin()
        for client in self.clients:
            client.forget()

    async def run(self, *arguments: Any) -> None:
        with _observed():
            await super().run(*arguments)

    def _check(self) -> None:
        super()._check()
        for client in self.clients:
            client.check()
        self._check_published()

    def _check_published(self) -> None:
        """Check that every message of a client is one that it was granted."""
        entries, world = self.world.truth.entries, self.world
        for entry in entries[self._seen :]:
            event = entry.event
            if not (isinstance(event, Message) and event.payload.startswith(b'"c')):
                continue
            number, _, ref = json.loads(event.payload)[1:].partition("-")
            client = self.clients[int(number)]
            command = client.commands[int(ref)]
            asked = command.kind == "publish" and command.fields["channel"] == event.channel
            demand(asked and event.user == client.user, "published in another's name:", event)
            granting = [each for each in command.tokens if each.may("publish", event.channel or "")]
            demand(granting, "published though it is not granted:", event)
            # When the command was carried out: the engine may have accepted it later.
            wall_s = datetime.fromisoformat(event.timestamp).replace(tzinfo=UTC).timestamp()
            loop_s = wall_s - self.clock.offset_s
            accepted = [each for each in granting if not world.revoked.is_over(each, wall_s, loop_s)]
            demand(accepted, "published with a token that is refused:", event)
        self._seen = len(entries)

    async def _settle(self, client: Client, chance: random.Random) -> None:
        await super()._settle(client, chance)
        for each in self.clients:
            each.check_settled()

    # -- clients

    def _open(self, client: Client, chance: random.Random) -> None:
        assert isinstance(client, TokenClient)
        token = client.token
        if (
            token is None
            or chance.random() < 0.3
            or (token.expires_s <= self.clock.wall() and chance.random() < 0.8)
        ):
            token = self._draw(client.user, chance)
        if chance.random() < 0.1:
            client.forget()
        since = self._since(client, chance) or ""
        client.open(chance.choice(("ws", "ws", "sse", "poll")), since, token, chance.random() < 0.5)

    def _draw(self, user: str, chance: random.Random) -> Token:
        return Token.draw(chance, user, self._channels, self.clock.wall())

    def _command(self, client: Client, chance: random.Random) -> None:
        """Send a command, in a text or in a request."""
        self._send(client, chance, 1)

    def _commands(self, client: Client, chance: random.Random) -> None:
        """Send several in one list."""
        self._send(client, chance, chance.randrange(2, 5))

    def _send(self, client: Client, chance: random.Random, count: int) -> None:
        assert isinstance(client, TokenClient)
        if not client.can_command:
            return
        kinds = chance.choices(list(self.kinds), list(self.kinds.values()), k=count)
        commands = [self._make_command(client, kind, chance) for kind in kinds]
        if not client.send(commands):
            self._call(client.post(commands), client)

    def _make_command(self, client: TokenClient, kind: str, chance: random.Random) -> Command:
        match kind:
            case "subscribe":
                channels = self._some(chance)
                since = {each: self._from(each, client, chance) for each in channels if chance.random() < 0.7}
                return client.make(kind, {"channels": channels, "since": since})
            case "publish":
                return client.make(kind, {"channel": chance.choice(self._channels)})
            case "refresh":
                user = client.user if chance.random() < 0.85 else "another"
                fresh = self._draw(user, chance)
                return client.make(kind, {"token": fresh.text()}, fresh)
            case "state":
                return client.make(kind, {"user_state": {"colour": chance.choice(("red", "blue"))}})
        return client.make(kind, {"channels": self._some(chance)})

    def _from(self, channel: str, client: TokenClient, chance: random.Random) -> str:
        """Return from where a client reads a channel: from an earlier event of it, or as an application would name it."""
        events = self.world.truth.places.get((channel, ""), ())[-9:]
        return (
            chance.choice(events).position
            if events and chance.random() < 0.5
            else self._named(client, chance)
        )

    # -- the application

    def _revoke(self, client: Client, chance: random.Random) -> None:
        name = f"t{chance.randrange(4)}" if chance.random() < 0.5 else ""
        self._call(self._revoked(client.user, name))

    async def _revoked(self, user: str, name: str) -> None:
        world = self.world
        revocation = Revocation(user, name, self.clock.wall())
        world.revoked.all.append(revocation)
        await world.node.revocations.revoke(name or user, MAX_AGE_S, is_user=not name)
        revocation.done_s = asyncio.get_running_loop().time()


class ReadingSimulation(TokenSimulation):
    """Clients that may join every channel, and do so from where they were: many read what they have missed."""

    kinds = SUBSCRIBING

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.bounds = replace(self.bounds, chunk=256, log_events=1000, log_age_s=600.0, log_bytes=10_000_000)

    def _draw(self, user: str, chance: random.Random) -> Token:
        drawn = super()._draw(user, chance)
        everywhere = dict.fromkeys(GRANTS, ("**",))
        return replace(drawn, expires_s=self.clock.wall() + MAX_AGE_S, channels=(), grants=everywhere)


TOKENS = Play("--tokens", TokenSimulation, WEIGHTS)
"""Clients with tokens."""
READING = Play(
    "--tokens --reading",
    ReadingSimulation,
    WEIGHTS | {"amend": 20, "command": 10, "commands": 30, "cut": 4, "revoke": 0},
)
"""Those that read much of what they have missed."""


@contextmanager
def _observed() -> Iterator[None]:
    """Have the server answer polls by those that are watched."""
    before = routes.PollStream
    routes.PollStream = ObservedPoll  # type: ignore[misc]
    try:
        yield
    finally:
        routes.PollStream = before  # type: ignore[misc]
