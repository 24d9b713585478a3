"""One stream of a client with a token, and the commands that the client sends."""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.simulation.line import FrameParser
from tests.simulation.token_line import AfterHead, TokenLine
from tests.simulation.token_model import Token
from tests.simulation.token_watch import Promise, TokenWatch

from channelstream.core.connection import Connection
from channelstream.transports.longpoll import PollStream


@dataclass(eq=False)
class Command:
    """A command that a client has sent.

    Attributes:
        tokens: one of which is in force when it is carried out.
        fresh: that of a refresh.
        promises: what its answer promises.
        begun_posts: requests with commands that its client had sent before; -1 if one of them was not answered.
    """

    ref: int
    kind: str
    fields: dict[str, Any]
    tokens: list[Token]
    fresh: Token | None = None
    promises: list[Promise] = field(default_factory=list)
    begun_posts: int = -1

    def text(self) -> dict[str, Any]:
        return {"id": self.ref, "type": self.kind} | self.fields

    def is_granted(self, token: Token) -> bool:
        match self.kind:
            case "subscribe":
                return all(token.may("subscribe", each) for each in self.fields["channels"])
            case "publish":
                return token.may("publish", self.fields["channel"])
            case "info":
                return all(token.described(each) for each in self.fields["channels"])
        return True


class Observer(Protocol):
    """The client of a stream."""

    def begin(self, opened: "Opened", connection: Connection) -> None:
        """Watch a stream from the moment at which it has its connection."""

    def saw(self, opened: "Opened", items: Any) -> None:
        """Look at what the server writes."""


class Opened:
    """One stream of a client, from its request on.

    Attributes:
        tokens: one of which is in force.
        answered: those of them of which the answers that were read do not say more.
        awaiting: commands in texts that are not answered yet.
    """

    def __init__(self, client: Observer, token: Token, since: str, is_refused: bool) -> None:
        self.client = client
        self.token = token
        self.tokens = [token]
        self.answered = [token]
        self.since = since
        self.is_refused = is_refused
        self.watch: TokenWatch | None = None
        self.line: TokenLine | None = None
        self.poll: PollStream | None = None
        self.shown = AfterHead(FrameParser())
        self.sent: dict[int, Command] = {}
        self.awaiting: deque[Command] = deque()
        self.is_gone = False
        self.is_connected = False
        self.began_quiet = False
        self.begun_posts = 0

    @property
    def stream(self) -> Any:
        return self.line.protocol if self.line is not None else self.poll

    def refreshed(self, fresh: Token) -> None:
        """Note that a fresh token is in force, until one of those that are sent after it is."""
        later = [each.fresh for each in self.awaiting if each.fresh is not None]
        self.token, self.tokens = fresh, [fresh, *later]


class ObservedPoll(PollStream):
    """The product's long poll, watched."""

    def __init__(self, streams: Any, connection: Connection, line: Any) -> None:
        super().__init__(streams, connection, line)
        self._opened: Opened = line.owner

    def open(self, since: str | None) -> None:
        self._opened.poll = self
        self._opened.client.begin(self._opened, self._connection)
        super().open(since)

    def write_first(self, data: bytes) -> None:
        self._opened.client.saw(self._opened, json.loads(data))
        super().write_first(data)

    def write(self, data: bytes) -> None:
        self._opened.client.saw(self._opened, json.loads(data))
        super().write(data)
