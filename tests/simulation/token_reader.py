"""A client with a token, as far as its streams go: how it opens them, and what the server writes to them."""

import asyncio
import json
from collections.abc import Iterable, Sequence, Set
from functools import partial
from itertools import count
from typing import Any

from tests.simulation.checker import Checker
from tests.simulation.client import Client
from tests.simulation.failure import Failure
from tests.simulation.line import BlockParser, FrameParser
from tests.simulation.token_line import (
    AfterHead,
    Body,
    Lent,
    PollSocket,
    TokenLine,
    head_of,
    request_of,
    text_frame,
)
from tests.simulation.token_model import Token
from tests.simulation.token_stream import Command, Opened
from tests.simulation.token_watch import Promise, TokenWatch
from tests.simulation.token_world import TokenWorld
from tests.simulation.world import Bounds

from channelstream.core.connection import Connection
from channelstream.errors import ChannelstreamError
from channelstream.http.request import ClientGone
from channelstream.transports.websocket import WebSocketStream
from channelstream_client.resuming import ResumingClient

UNANSWERED_S = 5.0
"""How long a command, or a request for a stream, may be carried out whose client has left."""
TRANSIENT = {"unavailable", "unknown_connection", "rate_limited", "overloaded"}
"""Errors of commands that are granted."""


class TokenReader(Client):
    """One browser, whose streams open with its token.

    Attributes:
        token: what it has got last; None if that is refused.
        conn_id: what the server has called its connection; empty if it knows none.
        received: positions of all events that it has received.
        named: positions from which it has asked for channels.
        possible: tokens by which its connection may be in channels.
        commands: all that were sent, by their ids.
    """

    world: TokenWorld

    def __init__(self, number: int, checker: Checker, bounds: Bounds) -> None:
        super().__init__(number, checker, bounds)
        self.token: Token | None = None
        self.conn_id = ""
        self.opened: Opened | None = None
        self.possible: list[Token] = []
        self.commands: dict[int, Command] = {}
        self.named: dict[str, set[str]] = {}
        self.received: set[str] = set()
        self._refs = count(1)
        self._posts = self._begun_posts = 0
        self._loose_s = -1.0
        self._promises: list[Promise] = []
        self._voided: dict[str, int] = {}
        self._posted_channels: set[str] = set()
        self._bounds = bounds

    @property
    def busy(self) -> bool:
        """Whether its connection joins or leaves channels at this moment."""
        return self.connection is not None and bool(self.connection.joining or self.connection.leaving)

    @property
    def _is_quiet(self) -> bool:
        """Whether no command of an earlier stream or request may still be carried out."""
        return not self._posts and asyncio.get_running_loop().time() > self._loose_s

    def _refuses(self, token: Token) -> bool:
        """Whether the server refuses a token from now on."""
        world = self.world
        now_s = asyncio.get_running_loop().time()
        return world.revoked.is_over(token, world.node.clock.wall(), now_s)

    def _may_be_over(self, token: Token) -> bool:
        """Whether the server may refuse a token already: it has expired, or a call revokes it."""
        world = self.world
        return token.expires_s <= world.node.clock.wall() or world.revoked.since_s(token) is not None

    def open(self, transport: str, since: str, token: Token, by_text: bool) -> None:
        """Open a stream."""
        self._leave_stream()
        self.token = token
        self.possible.append(token)
        self._steps = ResumingClient("", self.conn_id, [transport], lambda: 0.0, position=since)
        self._steps.next_step(0.0)
        self._checker.began(self, since)
        if since != self.position:
            self._void(self.named)  # It claims to be elsewhere, and is owed what follows from that.
        self.stalled = False
        opened = self.opened = Opened(self, token, since, self._refuses(token))
        opened.began_quiet, opened.begun_posts = self._is_quiet, self._begun_posts
        self._polls = transport == "poll"
        if self._polls:
            self._open_poll_with_token(opened)
        else:
            self._open_line(opened, transport, by_text)

    def _leave_stream(self) -> None:
        """Leave the present stream, which the server finds replaced, or lost while it opens."""
        opened = self.opened
        if opened is None:
            return
        self._abandon(opened)
        if opened.watch is None or not self.conn_id:
            self.drop()
        opened.is_gone = True
        self._watch = self._line = self._answer = None
        self._gone = None

    def _abandon(self, opened: Opened) -> None:
        """Expect that commands which are not answered are carried out, or not."""
        if opened.awaiting or opened.watch is None:
            self._loose_s = asyncio.get_running_loop().time() + UNANSWERED_S
            self._unordered(opened.awaiting)
        if opened.watch is None:  # It may still join what its token names.
            self._posted_channels |= {*opened.token.channels}

    def _query(self, opened: Opened) -> dict[str, str]:
        return {"since": opened.since} | ({"conn_id": self.conn_id} if self.conn_id else {})

    def _open_line(self, opened: Opened, transport: str, by_text: bool) -> None:
        line = self._line = opened.line = TokenLine(self._bounds.outbox_bytes, self._bounds.pauses_late)
        line.protocol = asyncio.Protocol()
        line.on_lost = partial(self._line_lost, opened)
        line.on_write = partial(self._written_to, opened)
        parser: Any = FrameParser if transport == "ws" else partial(BlockParser, answers=True)
        opened.shown, self._parser = AfterHead(parser()), AfterHead(parser())  # type: ignore[assignment]
        world, text = self.world, opened.token.text()
        if transport == "sse":
            take = world.sockets.event_stream(head_of("GET", "/sse", self._query(opened), text))
        elif by_text:
            take = world.sockets.websocket(world.entrance, head_of("GET", "/ws", {}, upgrades=True))
        else:
            head = head_of("GET", "/ws", self._query(opened), text, upgrades=True)
            take = world.sockets.websocket(world.entrance, head)
        assert take is not None
        take(Lent(line, line.abort))
        if by_text and transport == "ws":
            connect = {"type": "connect", "id": 0, "token": text} | self._query(opened)
            line.send(text_frame(json.dumps(connect).encode()))

    def _line_lost(self, opened: Opened) -> None:
        opened.is_gone = True
        if opened is self.opened:
            self._watch = self._line = self.opened = None
            self._abandon(opened)

    def _written_to(self, opened: Opened, data: bytes) -> None:
        self._checker.wrote(self.number, data)
        for items in opened.shown.feed(data):
            if opened.watch is None and items and "conn_id" in items[0].get("result", {}):
                connection = self.world.node.connection(items[0]["result"]["conn_id"])
                assert connection is not None
                self.begin(opened, connection)
            self.saw(opened, items)

    def begin(self, opened: Opened, connection: Connection) -> None:
        """Watch a stream from the moment at which it has its connection."""
        if opened is not self.opened:
            return
        if opened.is_refused:
            self.world.failures.append(Failure("a stream opens with a token that is refused"))
        if self._is_quiet and opened.began_quiet and opened.begun_posts == self._begun_posts:
            self.possible = [opened.token]
        self.connection = connection
        opened.watch = self._watch = TokenWatch(self, self.world, connection, opened.since)
        opened.watch.announced |= self._posted_channels

    def saw(self, opened: Opened, items: Sequence[dict[str, Any]]) -> None:
        """Look at what the server writes."""
        if opened.watch is None:
            return
        if opened.is_gone:
            opened.watch.unseen(items)
            return
        for item in items:
            command = opened.sent.get(item.get("id", 0))
            if command is not None and item.get("error", {}).get("code") in TRANSIENT:
                opened.watch.announced |= {*command.fields.get("channels", ())}  # It may be done in part.
        opened.watch.sent(items)
        for item in items:
            if item["type"] == "reply" and item["id"] in opened.sent:
                try:
                    self._promise(opened.sent[item["id"]], item, can_recover=True)
                except Failure as failure:
                    self.world.failures.append(failure)

    def _promise(
        self, command: Command, item: dict[str, Any], can_recover: bool, left: Set[str] = frozenset()
    ) -> None:
        """Note what an answer promises, at the moment when the server gives it.

        Args:
            can_recover: nothing but the log decides what is lost.
            left: channels that the client has left since.
        """
        raise NotImplementedError

    def _void(self, channels: Iterable[str]) -> None:
        """Expect nothing any more of what was promised in these channels, also by answers that are still to come."""
        voided = dict.fromkeys(channels, len(self.commands))
        self._voided |= voided
        self._promises = [each for each in self._promises if each.channel not in voided]

    def _unordered(self, commands: Iterable[Command]) -> None:
        """Expect events of these commands' channels at any time: their answers come elsewhere, or never."""
        for each in commands:
            self._posted_channels |= {
                *each.fields.get("channels", ()),
                *(each.fresh.channels if each.fresh else ()),
            }
        if self.opened is not None and self.opened.watch is not None:
            self.opened.watch.announced |= self._posted_channels

    def _open_poll_with_token(self, opened: Opened) -> None:
        self._gone = asyncio.Event()
        head = head_of("GET", "/listen", self._query(opened), opened.token.text())

        async def until_gone(gone: asyncio.Event = self._gone) -> None:
            await gone.wait()

        request = request_of(head, Body(b"", PollSocket(opened), until_gone))
        asyncio.get_running_loop().create_task(self._poll_with_token(opened, request))

    async def _poll_with_token(self, opened: Opened, request: Any) -> None:
        try:
            response = await self.world.requests.poll(request)
        except ClientGone:
            return
        except ChannelstreamError as error:
            if opened is self.opened:
                self._watch = self.opened = None
                if error.code == "unknown_connection":
                    self.forget()
            return
        self._checker.wrote(self.number, response.body)
        if opened is self.opened:
            self._answer = response.body

    def _read_answer(self, body: bytes) -> None:
        watch, opened = self._watch, self.opened
        if watch is None or opened is None:
            return
        self._receive(watch, json.loads(body))
        self._watch = None
        self.open("poll", self._next_poll(), opened.token, by_text=False)

    def forget(self) -> None:
        super().forget()
        self.conn_id = ""
        self._promises = []

    def drop(self) -> None:
        if self.opened is not None:
            self.opened.is_gone = True
            self._abandon(self.opened)
        super().drop()
        self.opened = None

    def part(self) -> None:
        if self._line is not None and isinstance(self._line.protocol, WebSocketStream):
            self._line.protocol.data_received(b"\x88\x82\0\0\0\0\x03\xe8")
        self.forget()
