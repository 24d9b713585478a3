"""A client with a token: it sends commands, in texts or in requests, and checks their answers."""

import asyncio
import json
from collections.abc import Coroutine, Sequence, Set
from typing import Any

from tests.simulation.failure import demand
from tests.simulation.token_line import Body, head_of, request_of, text_frame
from tests.simulation.token_model import Token
from tests.simulation.token_reader import TRANSIENT, TokenReader
from tests.simulation.token_stream import Command, Opened
from tests.simulation.token_watch import could_recover, promise_of

from channelstream.core.connection import ConnectionState
from channelstream.errors import BadToken
from channelstream.transports.websocket import WebSocketStream


def left_by(commands: Sequence[Command]) -> set[str]:
    """Return the channels that these commands leave: what an answer before them promises does not matter any more."""
    return {name for each in commands if each.kind == "unsubscribe" for name in each.fields["channels"]}


class TokenClient(TokenReader):
    """One browser, which acts for itself."""

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

    async def _posted(self, opened: Opened, commands: Sequence[Command], token: Token) -> None:
        world, connection = self.world, self.connection
        is_refused, alone, begun = self._refuses(token), self._posts == 1, self._begun_posts
        text = json.dumps([each.text() for each in commands]).encode()
        head = head_of("POST", "/client", {"conn_id": self.conn_id}, token.text())
        try:
            response = await world.calls.answer(request_of(head, Body(text, None, asyncio.Event().wait)))
        except BadToken:
            may_be_bad = self._may_be_over(token) or self.token is not token or world is not self.world
            demand(may_be_bad, "refused though it is valid:", token)
            return
        finally:
            self._posts -= 1
        demand(not is_refused, "commands are carried out with a token that is refused")
        replies = [each for each in json.loads(response.body) if each["type"] == "reply"]  # type: ignore[arg-type]
        ids = [each["id"] for each in replies]
        demand(ids == [each.ref for each in commands], "answered", ids, "for", commands)
        alone, held = alone and begun == self._begun_posts and self._is_quiet, [token]
        for number, (command, item) in enumerate(zip(commands, replies, strict=True), 1):
            if alone and connection is self.connection and connection is not None:
                # Of a stream that opens or ends meanwhile, and of a poll, it depends on the moment.
                is_open = opened is self.opened and connection.stream is opened.stream and not opened.is_gone
                can_recover = is_open and opened.line is not None
                self._promise(command, item, can_recover, left_by(commands[number:]))
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

    def _promise(
        self, command: Command, item: dict[str, Any], can_recover: bool, left: Set[str] = frozenset()
    ) -> None:
        result = item.get("result", {})
        if command.kind != "subscribe" or "recovered" not in result or self.connection is None:
            return
        if self.connection.state is ConnectionState.CLOSED:
            return  # It has ended meanwhile, and with it its channels.
        since: dict[str, str] = command.fields["since"]
        asked = {each: since[each] for each in result["subscribed"] if since.get(each)}
        recovered, lost = result["recovered"], result["lost"]
        demand({*recovered, *lost} == set(asked), "neither recovered nor lost:", item, asked)
        asked = {each: start for each, start in asked.items() if each not in left}
        command.promises = [
            promise_of(self.world, self.connection, each, asked[each]) for each in recovered if each in asked
        ]
        kept = could_recover(self.world, self.connection, asked, self._bounds.chunk)
        wrong = kept & set(lost) if can_recover else set()
        demand(not wrong, "lost without a reason, as it is joined:", wrong, asked)

    def _judge(
        self, command: Command, item: dict[str, Any], held: list[Token], opened: Opened, alone: bool
    ) -> list[Token]:
        """Check the answer to a command, by the token in force, one of these; return those of which one is in force then."""
        code = item.get("error", {}).get("code", "")
        self._promises += [
            each for each in command.promises if command.ref > self._voided.get(each.channel, 0)
        ]
        if command.fresh is not None:
            return self._judge_refresh(command.fresh, code, held, opened, alone)
        if code == "bad_token":
            demand(any(map(self._may_be_over, held)), "refused though its token is valid:", command, item)
        elif not any(map(command.is_granted, held)):
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
        self._void(lost)

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
