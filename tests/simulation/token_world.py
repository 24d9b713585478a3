"""A server that accepts tokens."""

import random
from typing import Any

from tests.simulation.token_model import MAX_AGE_S, SECRET, Revoked
from tests.simulation.world import Bounds, World, WorldClock

from channelstream.api.client_info import client_info
from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.key_ring import KeyRing
from channelstream.auth.token import TokenAuth, TokenRules
from channelstream.transports.client_calls import ClientCalls
from channelstream.transports.entrances import ByConnId
from channelstream.transports.opening import SocketOpener
from channelstream.transports.routes import StreamHandlers
from channelstream.transports.tokens import ClientRules, Tokens


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
