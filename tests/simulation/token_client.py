"""A client with a token: it opens its streams with it, and sends commands, in texts or in requests."""

import asyncio
import json
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any

from tests.simulation.checker import Checker
from tests.simulation.client import Client
from tests.simulation.failure import Failure, demand
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
from tests.simulation.token_watch import Promise, TokenWatch, could_recover, promise_of
from tests.simulation.token_world import TokenWorld
from tests.simulation.world import Bounds

from channelstream.core.connection import Connection, ConnectionState
from channelstream.errors import BadToken, ChannelstreamError
from channelstream.http.request import ClientGone
from channelstream.transports.websocket import WebSocketStream
from channelstream_client.resuming import ResumingClient

UNANSWERED_S = 5.0
"""How long a command, or a request for a stream, may be carried out whose client has left."""
TRANSIENT = {"unavailable", "unknown_connection", "rate_limited", "overloaded"}
"""Errors of commands that are granted."""


class TokenClient(Client):
    """One browser.

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

    # -- streams

    def open(self, transport: str, since: str, token: Token, by_text: bool) -> None:
        """Open a stream."""
        self._leave_stream()
        self.token = token
        self.possible.append(token)
        self._steps = ResumingClient("", self.conn_id, [transport], lambda: 0.0, position=since)
        self._steps.next_step(0.0)
        self._checker.began(self, since)
        if since != self.position:
            self._promises = []  # It claims to be elsewhere, and is owed what follows from that.
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
        take.open(Lent(line, line.abort))
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

    def _promise(self, command: Command, item: dict[str, Any], can_recover: bool) -> None:
        """Note what an answer promises, at the moment when the server gives it.

        Args:
            can_recover: nothing but the log decides what is lost.
        """
        result = item.get("result", {})
        if command.kind != "subscribe" or "recovered" not in result or self.connection is None:
            return
        if self.connection.state is ConnectionState.CLOSED:
            return  # It has ended meanwhile, and with it its channels.
        since: dict[str, str] = command.fields["since"]
        asked = {each: since[each] for each in result["subscribed"] if since.get(each)}
        recovered, lost = result["recovered"], result["lost"]
        demand({*recovered, *lost} == set(asked), "neither recovered nor lost:", item, asked)
        command.promises = [promise_of(self.world, self.connection, each, since[each]) for each in recovered]
        kept = could_recover(self.world, self.connection, asked, self._bounds.chunk)
        wrong = kept & set(lost) if can_recover else set()
        demand(not wrong, "lost without a reason, as it is joined:", wrong, asked)

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

    # -- commands

    @property
    def can_command(self) -> bool:
        return self.opened is not None and self.opened.is_connected and self.token is not None

    def make(self, kind: str, fields: dict[str, Any], fresh: Token | None = None) -> Command:
        """Return a command that is about to be sent."""
        assert self.opened is not None
        command = Command(next(self._refs), kind, fields, [*self.opened.tokens], fresh)
        if kind == "publish":
            fields["message"] = f"c{self.number}-{command.ref}"
        self.commands[command.ref] = command
        return command

    def send(self, commands: Sequence[Command]) -> bool:
        """Send commands in a text, if the stream takes them; return whether it does."""
        opened = self.opened
        assert opened is not None
        if opened.line is None or not isinstance(opened.line.protocol, WebSocketStream) or self.number % 2:
            return False
        self._note_sent(opened, commands)
        for each in commands:
            each.begun_posts = self._begun_posts if self._is_quiet else -1
        opened.awaiting += commands
        opened.sent |= {each.ref: each for each in commands}
        texts = [each.text() for each in commands]
        opened.line.send(text_frame(json.dumps(texts if len(texts) > 1 else texts[0]).encode()))
        return True

    def _note_sent(self, opened: Opened, commands: Sequence[Command]) -> None:
        fresh = [each.fresh for each in commands if each.fresh is not None]
        opened.tokens += fresh
        self.possible += fresh
        if opened.watch is not None:
            opened.watch.announced |= {name for each in fresh for name in each.channels}
        for command in commands:
            command.tokens += fresh
            if command.kind == "subscribe" and command.fields["since"]:
                for channel, since in command.fields["since"].items():
                    self.named.setdefault(channel, set()).add(since)
                checker: Any = self._checker
                checker.asked_again(self, self.world, command.fields["since"])

    def post(self, commands: Sequence[Command]) -> Coroutine[None, None, None]:
        """Send commands in a request; return what waits for its answer."""
        opened, token = self.opened, self.token
        assert opened is not None and token is not None
        self._note_sent(opened, commands)
        self._unordered(commands)
        self._posts += 1
        self._begun_posts += 1
        return self._posted(opened, commands, token)

    def _unordered(self, commands: Iterable[Command]) -> None:
        """Expect events of these commands' channels at any time: their answers come elsewhere, or never."""
        for each in commands:
            self._posted_channels |= {
                *each.fields.get("channels", ()),
                *(each.fresh.channels if each.fresh else ()),
            }
        if self.opened is not None and self.opened.watch is not None:
            self.opened.watch.announced |= self._posted_channels

    async def _posted(self, opened: Opened, commands: Sequence[Command], token: Token) -> None:
        world, connection = self.world, self.connection
        is_refused, alone, begun = self._refuses(token), self._posts == 1, self._begun_posts
        text = json.dumps([each.text() for each in commands]).encode()
        head = head_of("POST", "/client", {"conn_id": self.conn_id}, token.text())
        try:
            response = await world.calls.answer(request_of(head, Body(text, None, asyncio.Event().wait)))
        except BadToken:
            now_s = world.node.clock.wall()
            is_bad = token.expires_s <= now_s or world.revoked.since_s(token) is not None
            demand(
                is_bad or self.token is not token or world is not self.world,
                "refused though it is valid:",
                token,
            )
            return
        finally:
            self._posts -= 1
        demand(not is_refused, "commands are carried out with a token that is refused")
        replies = [each for each in json.loads(response.body) if each["type"] == "reply"]  # type: ignore[arg-type]
        ids = [each["id"] for each in replies]
        demand(ids == [each.ref for each in commands], "answered", ids, "for", commands)
        alone, held = alone and begun == self._begun_posts and self._is_quiet, [token]
        for command, item in zip(commands, replies, strict=True):
            if alone and connection is self.connection and connection is not None:
                # Of a stream that opens meanwhile, and of a poll, it depends on the moment.
                can_recover = opened is self.opened and opened.line is not None and not opened.is_gone
                self._promise(command, item, can_recover)
            held = self._judge(command, item, held, opened, alone)

    def took(self, item: dict[str, Any]) -> None:
        """Read an item that is no event."""
        opened = self.opened
        if item["type"] == "expiring":
            demand(0 <= item["seconds"] <= 26, "warned too early:", item)
        if item["type"] != "reply" or opened is None:
            return
        if "conn_id" in item.get("result", {}):
            self.conn_id, opened.is_connected = item["result"]["conn_id"], True
            return
        demand(opened.awaiting, "an answer to nothing:", item)
        command = opened.awaiting.popleft()
        demand(item["id"] == command.ref, "answered", item, "instead of", command)
        alone = self._is_quiet and command.begun_posts == self._begun_posts
        opened.answered = self._judge(command, item, opened.answered, opened, alone)

    def _judge(
        self, command: Command, item: dict[str, Any], held: list[Token], opened: Opened, alone: bool
    ) -> list[Token]:
        """Check the answer to a command, by the token in force, one of these; return those of which one is in force then."""
        code = item.get("error", {}).get("code", "")
        self._promises += command.promises
        if command.fresh is not None:
            return self._judge_refresh(command.fresh, code, held, opened, alone)
        if not any(map(command.is_granted, held)):
            demand(code == "forbidden", "carried out though it is not granted:", command, item)
        elif code:
            may_be_refused = code == "forbidden" and not all(map(command.is_granted, held))
            demand(may_be_refused or code in TRANSIENT, "refused though it is granted:", command, item)
        if command.kind == "info" and not code:
            self._judge_info(item["result"], held)
        return held

    def _judge_refresh(
        self, fresh: Token, code: str, held: list[Token], opened: Opened, alone: bool
    ) -> list[Token]:
        if code in TRANSIENT:
            return [*held, fresh]  # It may have been taken.
        if code:
            if fresh in opened.tokens:
                opened.tokens.remove(fresh)
            return held
        demand(fresh.user == self.user, "refreshed by another user's token")
        self.token = fresh
        if opened is self.opened:
            if alone:  # Else another refresh may be carried out after this one.
                opened.refreshed(fresh)
                self.possible = [*opened.tokens]
        elif self.opened is not None:  # The stream that the server finds may be this one, or the one before.
            self.opened.tokens.append(fresh)
            self.opened.answered.append(fresh)
        return [fresh]

    @staticmethod
    def _judge_info(result: dict[str, Any], held: Sequence[Token]) -> None:
        for name, described in result.get("channels", {}).items():
            shows = {"users", "total_users"} & described.keys()
            may_see = any(each.may("presence", name) for each in held)
            may_read = any(each.may("history", name) for each in held)
            demand(may_see or not shows, "shows the users of", name)
            demand(may_read or not described["history"], "shows the history of", name)

    def took_resumed(self, lost: Sequence[str]) -> None:
        self._promises = [each for each in self._promises if each.channel not in lost]

    # -- what holds

    def check(self) -> None:
        """Check what holds after each step."""
        connection, opened = self.connection, self.opened
        if connection is None or connection.state is ConnectionState.CLOSED:
            return
        for name in connection.channels.keys() - connection.leaving:
            demand(any(each.joins(name) for each in self.possible), "in a channel that is not granted:", name)
        if opened is not None and connection.stream is not None and connection.stream is opened.stream:
            demand(not all(map(self._refuses, opened.tokens)), "goes on with a token that is refused")

    def check_settled(self) -> None:
        """Check what holds while nothing is under way."""
        opened, watch = self.opened, self._watch
        if opened is None or watch is None or watch.over or watch.connection.stream is not opened.stream:
            return
        demand(not opened.awaiting, "not answered:", *opened.awaiting)
        for promise in self._promises:
            stays = self.world.hub.stays(promise.connection, promise.channel)
            if (
                promise.connection is not watch.connection
                or stays[-1] is not promise.stay
                or promise.stay.left
            ):
                continue
            for entry in promise.entries:
                is_past = self.world.truth.is_past(entry, frozenset({self.user}))
                came = is_past or entry.position in self.received
                demand(came, "promised and never sent:", entry.position, entry.event)
