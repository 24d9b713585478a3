"""A server that accepts tokens."""

import random
from typing import Any

from tests.simulation.token_model import MAX_AGE_S, SECRET, Revoked
from tests.simulation.truth import Truth
from tests.simulation.world import Bounds, World, WorldClock

from channelstream.api.client_info import client_info
from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.key_ring import KeyRing
from channelstream.auth.token import TokenAuth, TokenRules
from channelstream.core.entry import Entry
from channelstream.core.registry import Registry
from channelstream.transports.client_calls import ClientCalls
from channelstream.transports.entrances import ByConnId
from channelstream.transports.opening import SocketOpener
from channelstream.transports.routes import StreamHandlers
from channelstream.transports.tokens import ClientRules, Tokens


class TimedTruth(Truth):
    """The accepted events, with the time of each on the wall and of the loop."""

    def __init__(self, epoch: str, registry: Registry, clock: WorldClock) -> None:
        super().__init__(epoch, registry)
        self._clock = clock
        self.times: dict[int, tuple[float, float]] = {}

    def accept(self, entry: Entry) -> None:
        self.times[entry.offset] = self._clock.wall(), self._clock.steady()
        super().accept(entry)


class TokenWorld(World):
    """One run of a server whose clients have tokens.

    Attributes:
        revoked: what the application has revoked, which the memory engine forgets with the process.
        sockets, requests, calls, entrance: who opens WebSockets and event streams, and answers polls and commands.
    """

    def __init__(
        self,
        number: int,
        bounds: Bounds,
        clock: WorldClock,
        chance: random.Random,
        fresh: dict[str, dict[str, Any]],
    ) -> None:
        super().__init__(number, bounds, clock, chance)
        self.truth: TimedTruth = TimedTruth(f"e{number}", self.registry, clock)
        auth = TokenAuth({"default": TokenRules(MAX_AGE_S)}, KeyRing([ApiKey("", SECRET, App())]))
        tokens = Tokens(auth, clock.wall, self.node.revocations)
        self.streams.rules = ClientRules(tokens, client_info, frozenset({"default"}))
        self.revoked = Revoked()
        self.sockets = SocketOpener(self.streams, self.admission)
        self.requests = StreamHandlers(self.streams, self.admission)
        self.calls = ClientCalls(self.streams, self.admission.tokens)
        self.entrance = ByConnId(self.admission)
        self._fresh = fresh

    async def start(self) -> None:
        await super().start()
        await self.memory.configure(self._fresh)
