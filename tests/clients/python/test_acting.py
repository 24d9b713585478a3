"""The Python client with a token, against a real server."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import RunningServer, launch
from tests.line import Line
from tests.local_server import LocalHandler, LocalServer, running
from tests.simulation.loop import turns
from tests.token_client import SECRET, token
from tests.waiting import PATIENCE_S, soon

from channelstream_client import (
    Acting,
    AsyncChannelstream,
    BadAnswer,
    CommandRefused,
    Down,
    Listening,
    Message,
    MessageEvent,
    OtherEvent,
    Refused,
    Resumed,
    StreamClosed,
    Unreachable,
    testing,
)
from channelstream_client.acting import COMMANDS_AT_ONCE, refresh_after_s
from channelstream_client.streams import TRANSPORTS, Stream

NAMES = {"websocket": TRANSPORTS[0], "sse": TRANSPORTS[1], "poll": TRANSPORTS[2]}
GRANTED = {each: ["room.*"] for each in ("subscribe", "publish", "history", "presence")}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = launch(
        "-s",
        SECRET,
        CHANNELSTREAM_TOKEN_MAX_AGE_S="3600",
        CHANNELSTREAM_POLL_TIMEOUT_S="0.5",
        CHANNELSTREAM_CLIENT_STATE="true",
    )
    running.secret = SECRET
    yield running
    running.stop()


@pytest.fixture
def line(server: RunningServer) -> Iterator[Line]:
    line = Line(server.port)
    yield line
    line.close()


@pytest.fixture(params=NAMES)
def transport(request: pytest.FixtureRequest) -> Stream:
    return NAMES[request.param]


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, PATIENCE_S))


def giving(*tokens: str) -> Callable[[], Awaitable[str]]:
    """Return a function that gives these tokens, one after the other, and then the last one."""
    left = list(tokens)

    async def get_token() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return get_token


def giving_another_after(first: str, event: asyncio.Event) -> Callable[[], Awaitable[str]]:
    """Return what gives this token once, and then none before the event."""
    left = [first]

    async def get_token() -> str:
        if left:
            return left.pop()
        await event.wait()
        return token(**GRANTED)

    return get_token


class Late(Acting):
    """One whose request without an answer arrives at the server later, if it is to."""

    def giving_up(self, kind: str, failure: BaseException) -> Any:
        """Expect that the next command of this kind fails so."""
        self._kind, self._failure = kind, failure
        self._arrives = asyncio.Event()
        return pytest.raises(type(failure))

    async def late_arrival(self) -> None:
        """Let its request arrive, and be carried out."""
        self._arrives.set()
        [reply] = await self._late
        assert reply["type"] == "reply"

    async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if commands[0]["type"] == getattr(self, "_kind", None):
            self._kind = ""
            self._late = asyncio.create_task(self._arrive(self.conn_id, commands))
            raise self._failure
        return await super()._post(commands)

    async def _arrive(self, conn_id: str, commands: list[dict[str, Any]]) -> Any:
        await self._arrives.wait()
        query, headers = {"conn_id": conn_id}, {"Authorization": f"Bearer {self._client.token}"}
        address = f"{self._client.url}/client"
        return (await self._reach.http.post(address, params=query, json=commands, headers=headers)).json()


async def messages(acting: Acting) -> AsyncIterator[Any]:
    async for event in acting:
        if isinstance(event, MessageEvent):
            yield event.message


def _give_connection(acting: Acting) -> None:
    """As when its stream has opened."""
    acting._client.token = "t"
    acting._connect("c-1")


def test_a_client_acts_by_itself(server: RunningServer, transport: Stream) -> None:
    """On every transport, as far as its token goes."""
    room = f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Acting(server.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            assert await acting.subscribe([room]) == [room]
            uuid = str(uuid4())
            assert await acting.publish(room, {"text": "hi"}, uuid=uuid) == uuid
            assert await anext(messages(acting)) == {"text": "hi"}
            assert list((await acting.info([room])).channels[room].users) == ["ann"]
            assert await acting.set_state({"mood": uuid}) == {"mood": uuid}
            with pytest.raises(CommandRefused, match="does not grant publish of 'other'") as refused:
                await acting.publish("other", 1)
            assert refused.value.code == "forbidden"
            assert await acting.unsubscribe([room]) == []

    play(scenario())


def test_a_client_takes_the_payloads_of_calls(server: RunningServer) -> None:
    """A payload, or a state, that `publish` of an application accepts is one of a client with a token, too."""
    room = f"room.{uuid4().hex}"
    at = datetime(2026, 1, 1, tzinfo=UTC)

    async def scenario() -> None:
        async with Acting(server.url, giving(token(**GRANTED))) as acting:
            await acting.subscribe([room])
            await acting.publish(room, MappingProxyType({"at": at, "points": range(2), "text": "cut \ud83d"}))
            sent = {"at": at.isoformat(), "points": [0, 1], "text": "cut \ufffd"}
            assert await anext(messages(acting)) == sent
            assert await acting.set_state(MappingProxyType({"room": room})) == {"room": room}
            with pytest.raises(TypeError, match="object has no JSON form"):
                await acting.publish(room, object())

    play(scenario())


def test_what_a_token_does_not_grant_is_none(server: RunningServer) -> None:
    """A client that may not see the members of a channel does not take it for empty."""
    room = f"room.{uuid4().hex}"

    async def scenario() -> None:
        granted = {each: ["room.*"] for each in ("subscribe", "history")}
        async with Acting(server.url, giving(token(**granted))) as acting:
            await acting.subscribe([room])
            channel = (await acting.info([room])).channels[room]
            assert (channel.total_users, channel.total_connections, channel.users) == (None, None, ())

    play(scenario())


def test_a_client_comes_back_with_its_channels(server: RunningServer, line: Line, transport: Stream) -> None:
    """Also where the server has its connection no more: from where it was, and not in those that it has left."""
    room, left = f"room.{uuid4().hex}", f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Acting(line.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            await acting.subscribe([room, left])
            assert await acting.unsubscribe([left]) == [room]
            await acting.publish(room, 1)
            stream = messages(acting)
            assert await anext(stream) == 1
            before = acting.conn_id
            await asyncio.to_thread(line.cut)
            server.post("/disconnect", {"conn_id": before})
            server.post("/message", {"user": "x", "channel": room, "message": 2})
            await asyncio.to_thread(line.mend)
            assert await anext(stream) == 2
            await acting.publish(room, 3)
            assert await anext(stream) == 3
            assert acting.conn_id != before
            assert await acting.subscribe([room]) == [room]

    play(scenario())


def test_what_is_lost_of_its_channels_is_reported(
    server: RunningServer, line: Line, transport: Stream
) -> None:
    """Of those that it has joined again, and of one that it joins from a position that no log has."""
    room, other = f"room.{uuid4().hex}", f"room.{uuid4().hex}"
    server.post("/channel_config", {room: {"log_events": 0}})

    async def scenario() -> None:
        async with Acting(line.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            await acting.subscribe([room])
            await acting.publish(room, 1)
            before = acting.conn_id
            await asyncio.to_thread(line.cut)
            server.post("/disconnect", {"conn_id": before})
            server.post("/message", {"user": "x", "channel": room, "message": 2})
            await asyncio.to_thread(line.mend)
            lost: list[str] = []
            while room not in lost:
                lost += getattr(await anext(acting), "lost", ())
            await acting.subscribe([other], {other: "none-1"})
            while other not in lost:
                lost += getattr(await anext(acting), "lost", ())

    play(scenario())


def test_a_restart_is_reported_as_lost(start_server: Any, port: str, transport: Stream) -> None:
    """Also of the channels, in which the new connection is not yet when its stream opens."""
    room = f"room.{uuid4().hex}"
    flags = ("-p", port, "-s", SECRET, "--token-max-age-s", "3600", "--poll-timeout-s", "0.5")
    server = start_server(*flags)

    async def scenario() -> None:
        async with Acting(server.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            await acting.subscribe([room])
            await acting.publish(room, 1)
            assert await anext(messages(acting)) == 1
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(start_server, *flags)
            lost: list[str] = []
            while room not in lost:
                lost += getattr(await anext(acting), "lost", ())
            assert lost == ["", room]

    play(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_channels_that_cannot_be_joined_again_now_are_joined_later(
    server: RunningServer, line: Line, again: bool
) -> None:
    """From where the last connection was, also by a program that subscribes again: it does not know of the new one."""
    room = f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Acting(line.url, giving(token(**GRANTED)), transports=[NAMES["websocket"]]) as acting:
            await acting.subscribe([room])
            before = acting.conn_id
            await asyncio.to_thread(line.cut)
            server.post("/disconnect", {"conn_id": before})
            server.post("/message", {"user": "x", "channel": room, "message": 1})
            line.blocked = (b"POST /client",)
            await asyncio.to_thread(line.mend)
            stream = messages(acting)
            waiting = asyncio.ensure_future(anext(stream))
            while acting.conn_id == before:
                await asyncio.sleep(0)
            with pytest.raises(Unreachable):
                await acting.info([room])
            line.blocked = ()
            if again:
                await acting.subscribe([room])
            assert await waiting == 1

    play(scenario())


def test_a_channel_that_is_no_longer_granted_takes_no_other_away(server: RunningServer, line: Line) -> None:
    """One that a fresh token leaves out has the command refused that joins all of them again."""
    room, vip, name = f"room.{uuid4().hex}", f"vip.{uuid4().hex}", uuid4().hex
    tokens = giving(token(subscribe=["room.*", "vip.*"], jti=name), token(**GRANTED))

    async def scenario() -> None:
        async with Acting(line.url, tokens, transports=[NAMES["websocket"]]) as acting:
            await acting.subscribe([vip, room])
            before = acting.conn_id
            await asyncio.to_thread(line.cut)
            server.post("/revoke", {"jti": name})
            server.post("/disconnect", {"conn_id": before})
            server.post("/message", {"user": "x", "channel": room, "message": 1})
            await asyncio.to_thread(line.mend)
            assert await anext(messages(acting)) == 1

    play(scenario())


def test_a_subscribe_that_waits_for_a_new_connection_reads_what_was_missed() -> None:
    """It is the first command of the connection: the server reads a channel from where the first one says."""
    asked: list[dict[str, Any]] = []

    class Joining(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            asked.extend(commands)
            return [{"type": "reply", "id": 1, "result": {"channels": ["a", "b"]}}]

    async def scenario() -> None:
        acting = Joining("http://127.0.0.1:9", giving("t"))
        acting._wanted = {"a": None}
        acting._client.asked_for = "p-7"
        waiting = asyncio.create_task(acting.subscribe(["a", "b"]))
        await asyncio.sleep(0)
        _give_connection(acting)
        await asyncio.gather(waiting, *acting._tasks)
        await acting.aclose()

    play(scenario())
    assert [each["since"] for each in asked if each["channels"] == ["a", "b"]] == [{"a": "p-7"}]
    assert all(each["since"] == {"a": "p-7"} for each in asked)


def test_a_subscribe_that_an_older_connection_answers_is_sent_to_the_new_one(
    server: RunningServer, line: Line
) -> None:
    """The server has carried it out, and its answer comes when the client has another connection."""
    room = f"room.{uuid4().hex}"
    answered, released = asyncio.Event(), asyncio.Event()

    class Waiting(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            items = await super()._post(commands)
            answered.set()
            await released.wait()
            return items

    async def scenario() -> None:
        async with Waiting(line.url, giving(token(**GRANTED)), transports=[NAMES["websocket"]]) as acting:
            subscribing = asyncio.create_task(acting.subscribe([room]))
            await answered.wait()
            before = acting.conn_id
            await asyncio.to_thread(line.cut)
            server.post("/disconnect", {"conn_id": before})
            await asyncio.to_thread(line.mend)
            await soon(lambda: acting.conn_id not in (before, ""), "there is no new connection")
            released.set()
            assert await subscribing == [room]
            await acting.publish(room, 1)
            assert await anext(messages(acting)) == 1

    play(scenario())


@pytest.mark.parametrize("failure", [Unreachable("no answer in time"), asyncio.CancelledError()], ids=repr)
def test_a_channel_is_left_though_a_request_to_join_it_arrives_later(
    server: RunningServer, transport: Stream, failure: BaseException
) -> None:
    """One that was given up may still reach the server, after the one that leaves: the client has another connection."""
    room, left = f"room.{uuid4().hex}", f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Late(server.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            await acting.subscribe([room])
            with acting.giving_up("subscribe", failure):
                await acting.subscribe([left])
            assert await acting.unsubscribe([left]) == [room]
            await acting.late_arrival()
            await acting.publish(left, 1)
            await acting.publish(room, 2)
            assert await anext(messages(acting)) == 2

    play(scenario())


def test_a_channel_is_joined_though_a_request_to_leave_it_arrives_later(
    server: RunningServer, transport: Stream
) -> None:
    """By another connection, as in the opposite case; the other channels come with it."""
    room, other = f"room.{uuid4().hex}", f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Late(server.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            await acting.subscribe([room, other])
            with acting.giving_up("unsubscribe", Unreachable("no answer in time")):
                await acting.unsubscribe([room])
            assert room in await acting.subscribe([room])
            await acting.late_arrival()
            await acting.publish(room, 1)
            await acting.publish(other, 2)
            received = messages(acting)
            assert [await anext(received), await anext(received)] == [1, 2]

    play(scenario())


def test_a_command_that_is_repeated_after_no_answer_keeps_the_connection(server: RunningServer) -> None:
    """The one that may still arrive does nothing more; and so does one for another channel."""
    room, other = f"room.{uuid4().hex}", f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Late(server.url, giving(token(**GRANTED))) as acting:
            with acting.giving_up("subscribe", Unreachable("no answer in time")):
                await acting.subscribe([room])
            before = acting.conn_id
            assert await acting.subscribe([room]) == [room]
            assert await acting.unsubscribe([other]) == [room]
            await acting.late_arrival()
            assert acting.conn_id == before

    play(scenario())


def test_commands_for_one_channel_are_carried_out_in_the_order_of_their_calls(server: RunningServer) -> None:
    """Requests that are under way together may arrive in any order: here each one overtakes those before it."""
    room, name = f"room.{uuid4().hex}", f"room.{uuid4().hex}"

    class Overtaken(Acting):
        left = 6

        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            self.left -= 1
            await turns(50 * self.left)
            return await super()._post(commands)

    async def scenario() -> None:
        async with Overtaken(server.url, giving(token(**GRANTED))) as acting:
            await acting.subscribe([room])
            await asyncio.gather(
                acting.subscribe([name]),
                acting.unsubscribe([name]),
                acting.unsubscribe([room]),
                acting.subscribe([room]),
            )
            assert await acting.subscribe([room]) == [room]
            assert list(acting._wanted) == [room]

    play(scenario())


def test_a_channel_that_is_left_while_it_is_joined_again_is_left() -> None:
    """The server takes the two commands in this order."""
    asked: list[tuple[str, list[str]]] = []

    class Joining(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            [command] = commands
            if command["type"] == "subscribe":
                leaving.append(asyncio.create_task(self.unsubscribe(["a"])))
                await turns(20)
            asked.append((command["type"], command["channels"]))
            return [{"type": "reply", "id": 1, "result": {"channels": []}}]

    leaving: list[asyncio.Task[list[str]]] = []

    async def scenario() -> None:
        acting = Joining("http://127.0.0.1:9", giving("t"))
        acting._wanted = dict.fromkeys(["a", "b"])
        _give_connection(acting)
        await asyncio.gather(*acting._tasks)
        await asyncio.gather(*leaving)
        await acting.aclose()

    play(scenario())
    assert asked == [("subscribe", ["a", "b"]), ("unsubscribe", ["a"])]


@pytest.mark.parametrize("retry_after_s", [None, 0])
def test_a_refused_command_says_when_it_may_be_sent_again(retry_after_s: int | None) -> None:
    """Channels are joined again then; if never, each is tried by itself, and then left alone."""
    asked: list[dict[str, Any]] = []

    class Refusing(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            asked.extend(commands)
            more = {} if retry_after_s is None or len(asked) > 2 else {"retry_after": retry_after_s}
            return [{"type": "reply", "id": 1, "error": {"code": "x", "message": "No."} | more}]

    async def scenario() -> None:
        acting = Refusing("http://127.0.0.1:9", giving("t"))
        acting._wanted = dict.fromkeys(["a", "b"])
        _give_connection(acting)
        await asyncio.gather(*acting._tasks)
        await acting.aclose()

    play(scenario())
    joined = [["a", "b"]] * (1 if retry_after_s is None else 3) + [["a"], ["b"]]
    assert [each["channels"] for each in asked] == joined


def test_very_many_channels_are_joined_again_by_few_commands() -> None:
    """One that is not granted is left out, and those behind it are joined together again."""
    asked: list[list[str]] = []

    class Joining(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            asked.extend(command["channels"] for command in commands)
            if "vip" in asked[-1]:
                return [{"type": "reply", "id": 1, "error": {"code": "forbidden", "message": "No."}}]
            return [{"type": "reply", "id": 1, "result": {}}]

    async def scenario() -> None:
        acting = Joining("http://127.0.0.1:9", giving("t"))
        acting._wanted = dict.fromkeys(["a", "vip", *(f"room.{number}" for number in range(99))])
        _give_connection(acting)
        await asyncio.gather(*acting._tasks)
        await acting.aclose()

    play(scenario())
    assert [len(each) for each in asked] == [100, 1, 1, 99]


def test_channels_that_an_older_connection_joins_are_joined_by_the_new_one() -> None:
    """Also those of a later command, whose answer comes when the client has another connection."""
    joined: dict[str, list[str]] = {"c-1": [], "c-2": []}

    class Joining(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            conn_id, channels = self._client.conn_id, commands[0]["channels"]
            joined[conn_id] += channels
            if conn_id == "c-1" and len(channels) < 100:
                self._connect("c-2")
                await turns(3)
            return [{"type": "reply", "id": 1, "result": {}}]

    async def scenario() -> None:
        acting = Joining("http://127.0.0.1:9", giving("t"))
        acting._wanted = dict.fromkeys(f"room.{number}" for number in range(150))
        _give_connection(acting)
        await soon(lambda: not acting._tasks)
        await acting.aclose()

    play(scenario())
    assert [len(each) for each in joined.values()] == [150, 150]


def test_one_connection_joins_channels_where_two_have_followed_at_once() -> None:
    """The first of them is the client's no more before it has joined one."""
    joined: list[str] = []

    class Joining(Acting):
        async def _post(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
            joined.extend(commands[0]["channels"])
            return [{"type": "reply", "id": 1, "result": {}}]

    async def scenario() -> None:
        acting = Joining("http://127.0.0.1:9", giving("t"))
        acting._wanted = dict.fromkeys(["a", "b"])
        _give_connection(acting)
        acting._connect("c-2")
        await soon(lambda: not acting._tasks)
        await acting.aclose()

    play(scenario())
    assert joined == ["a", "b"]


@pytest.mark.slow
def test_a_fresh_token_is_asked_for_before_one_expires(server: RunningServer, transport: Stream) -> None:
    """It takes its place in the open stream, with its grants."""
    room = f"room.{uuid4().hex}"

    async def scenario() -> None:
        downs: list[Down] = []
        tokens = giving(token(subscribe=["room.*", "old"], life_s=27), token(**GRANTED))
        async with Acting(server.url, tokens, transports=[transport], on_down=downs.append) as acting:
            await acting.subscribe([room, "old"])
            async for event in acting:
                if isinstance(event, OtherEvent) and event.type == "unsubscribed":
                    break
            assert event.data["channels"] == ["old"]
            await acting.publish(room, 2)
            assert await anext(messages(acting)) == 2
        assert not downs

    play(scenario())


def test_a_client_whose_token_is_revoked_comes_back(server: RunningServer, transport: Stream) -> None:
    """With a fresh one, and misses nothing; the call says how many connections it has ended."""
    user, room = uuid4().hex, f"room.{uuid4().hex}"
    downs: list[Down] = []

    async def get_token() -> str:
        return token(user, **GRANTED)

    async def scenario() -> None:
        async with (
            Acting(server.url, get_token, transports=[transport], on_down=downs.append) as acting,
            AsyncChannelstream(server.url, SECRET) as application,
        ):
            await acting.subscribe([room])
            assert await application.revoke(user=user) == 1
            await application.publish(Message(user="eve", channel=room, message="meanwhile"))
            assert await anext(messages(acting)) == "meanwhile"

    play(scenario())
    assert [down.code for down in downs] == [4003]


def test_an_application_that_gives_one_token_again_is_asked_seldom(server: RunningServer) -> None:
    """As one that keeps a token until it expires: it would be asked as often as the server answers."""
    asked, same = 0, token(**GRANTED, life_s=24)

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        return same

    async def scenario() -> None:
        async with Acting(server.url, get_token) as acting:
            for _ in range(30):
                await acting.info(["room.1"])
        assert asked < 10

    play(scenario())


def test_tokens_are_asked_for_until_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, each in the time of the last one."""
    sent: list[str] = []
    lives: list[int] = []
    left = ["t-1", "t-2"]

    class Refreshed(Acting):
        async def _command(self, kind: str, **fields: Any) -> Any:
            sent.append(fields["token"])
            return {"expires_in": 600 + len(sent)}

    async def get_token() -> str:
        return left.pop(0)

    def after_s(seconds: float) -> float:
        lives.append(int(seconds))
        return 0.0

    monkeypatch.setattr("channelstream_client.acting.refresh_after_s", after_s)
    play(Refreshed("http://127.0.0.1:9", get_token)._refresh_in(0.0))
    assert (sent, lives) == (["t-1", "t-2"], [601, 602])


@pytest.mark.parametrize(
    ("seconds", "after_s"), [(600, 575), (50, 25), (26, 13), (25, 12.5), (4, 2), (1, 1), (0, 1)]
)
def test_a_fresh_token_is_asked_for_in_time(seconds: int, after_s: float) -> None:
    """Of a longer token never earlier than of a shorter one."""
    assert refresh_after_s(seconds) == after_s


def test_only_the_last_time_that_the_server_has_said_counts_for_the_next_token() -> None:
    """A client that has come back often does not ask once for each time."""

    async def scenario() -> None:
        acting = Acting("http://127.0.0.1:9", giving("t"))
        tasks: list[asyncio.Task[None] | None] = []
        for _ in range(2):
            acting._take({"type": "reply", "result": {"conn_id": "c-1", "expires_in": 600}})
            tasks.append(acting._refresh)
        await turns(3)
        assert [task and task.done() for task in tasks] == [True, False]
        await acting.aclose()

    play(scenario())


def test_a_command_that_waits_for_its_turn_waits_for_a_token_as_well(server: RunningServer) -> None:
    """The last one may expire meanwhile, and the command would go without one. It takes nobody's turn while it waits."""

    async def scenario() -> None:
        there_is_one, ended = asyncio.Event(), asyncio.Event()
        tokens = giving_another_after(token(**GRANTED, life_s=1), there_is_one)
        async with Acting(server.url, tokens, on_down=lambda _: ended.set()) as acting:
            await acting.info(["room.1"])
            async with AsyncExitStack() as all_slots:
                for _ in range(COMMANDS_AT_ONCE):
                    await all_slots.enter_async_context(acting._slots)
                asked = [asyncio.create_task(acting.info(["room.1"])) for _ in range(COMMANDS_AT_ONCE)]
                await ended.wait()
            await turns(5)
            async with acting._slots:
                there_is_one.set()
            await asyncio.gather(*asked)

    play(scenario())


def test_a_command_waits_on_if_the_connection_ends_that_it_has_waited_for(server: RunningServer) -> None:
    """Another command may notice that before this one goes on: the stream has not ended."""

    async def scenario() -> None:
        async with Acting(server.url, giving(token(**GRANTED))) as acting:
            asked = asyncio.create_task(acting.info(["room.1"]))
            await turns(3)
            acting._is_connected.set()
            acting._is_connected.clear()
            await asked

    play(scenario())


def test_one_command_by_a_forgotten_connection_is_refused(server: RunningServer, transport: Stream) -> None:
    """The error says so, and when to send it again. Further ones wait for the connection that follows."""
    room = f"room.{uuid4().hex}"

    async def scenario() -> None:
        async with Acting(server.url, giving(token(**GRANTED)), transports=[transport]) as acting:
            await acting.subscribe([room])
            acting._client.conn_id = forgotten = uuid4().hex
            with pytest.raises(CommandRefused, match="not carried out: send it again") as refused:
                await acting.publish(room, 1)
            assert (refused.value.code, refused.value.retry_after_s) == ("unknown_connection", 1)
            await acting.publish(room, 2)
            assert acting.conn_id != forgotten
            assert await anext(messages(acting)) == 2

    play(scenario())


def test_a_refused_token_is_replaced(server: RunningServer, transport: Stream) -> None:
    """The stream ends with 4003, and opens with the next one."""

    async def scenario() -> None:
        downs: list[int] = []
        tokens = giving(token(life_s=-1), token(**GRANTED))
        acting = Acting(
            server.url, tokens, transports=[transport], on_down=lambda down: downs.append(down.code)
        )
        async with acting:
            assert isinstance(await anext(acting), Resumed)
        assert downs == [4003]

    play(scenario())


def test_a_command_waits_for_a_token_in_place_of_one_that_has_expired(server: RunningServer) -> None:
    """As it waits for a connection."""

    async def scenario() -> None:
        there_is_one, ended = asyncio.Event(), asyncio.Event()
        tokens = giving_another_after(token(life_s=1), there_is_one)
        async with Acting(server.url, tokens, on_down=lambda _: ended.set()) as acting:
            await ended.wait()
            asked = asyncio.create_task(acting.info(["room.1"]))
            await turns(5)
            there_is_one.set()
            await asked

    play(scenario())


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[" * 100_000, b"{}", b"[]", b"[1]", b"[{}]", b'[{"result": []}]', b'[{"error": "No."}]'],
    ids=lambda body: body[:20].decode(),
)
def test_an_answer_of_another_program_is_an_error_of_its_own(body: bytes) -> None:
    """To a command, as to a call."""

    class Other(LocalHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))  # Unread, it would reset the connection.
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

    async def scenario(url: str) -> None:
        async with Acting(url, giving("t")) as acting:
            _give_connection(acting)
            with pytest.raises(BadAnswer):
                await acting.info(["room.1"])

    with running(LocalServer(Other)) as other:
        play(scenario(other.url))


def test_a_refusal_of_a_proxy_is_none_of_the_command() -> None:
    """It has no code, and to send the command again would not help."""

    class Proxy(LocalHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(401)
            self.end_headers()

    async def scenario(url: str) -> None:
        async with Acting(url, giving("t")) as acting:
            _give_connection(acting)
            with pytest.raises(Refused, match="answered 401"):
                await acting.info(["room.1"])

    with running(LocalServer(Proxy)) as proxy:
        play(scenario(proxy.url))


def test_a_token_that_is_none_is_asked_for_again_later(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An application that gives an empty text, or nothing, is not asked without end, and the token in use stays."""

    async def scenario() -> None:
        downs: list[str] = []
        good = token(**GRANTED)
        nothing: Any = None
        tokens = giving("", nothing, good, "")
        async with Acting(server.url, tokens, on_down=lambda down: downs.append(down.reason)) as acting:
            await acting.info(["room.1"])
            assert [reason.partition(" (")[0] for reason in downs] == [
                "get_token failed: it returned an empty text",
                "get_token failed: it returned NoneType",
            ]
            await acting._refresh_in(0.0)
            assert acting._client.token == good
            assert "no fresh token: it returned an empty text" in caplog.messages

    play(scenario())


def test_an_address_is_checked() -> None:
    """As that of the other clients: a stream to another would be tried again without end."""
    with pytest.raises(ValueError, match="https://"):
        Acting("localhost:8000", giving("t"))
    assert Acting("HTTP://Push.example/", giving("t"))._client.url == "http://Push.example"


def test_nothing_that_is_secret_is_logged(
    server: RunningServer, transport: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither by this client nor by the libraries that it uses, at any level."""
    caplog.set_level(logging.DEBUG)
    secret = token(**GRANTED)

    async def scenario() -> None:
        async with Acting(server.url, giving(secret), transports=[transport]) as acting:
            await acting.info(["room.1"])
        async with AsyncChannelstream(server.url, SECRET) as client:
            connection = await client.connect("ann")
            async with Listening(server.url, connection.conn_id, transports=[transport]) as listening:
                assert isinstance(await anext(listening), Resumed)
        for each in (secret, SECRET, acting.conn_id, connection.conn_id):
            assert each not in caplog.text
        assert "Bearer ..." in caplog.text or transport is not TRANSPORTS[0]

    play(scenario())


def test_a_command_after_the_end_fails(server: RunningServer) -> None:
    """It does not wait for a stream that never comes."""

    async def scenario() -> None:
        acting = Acting(server.url, giving(token(**GRANTED)))
        async with acting:
            await acting.subscribe(["room.a"])
        with pytest.raises(StreamClosed):
            await acting.subscribe(["room.a"])

    play(scenario())


def test_a_client_that_has_ended_does_nothing_more(server: RunningServer) -> None:
    """It asks for no fresh token, which would open its stream again."""

    async def scenario() -> None:
        before = asyncio.all_tasks()
        async with Acting(server.url, giving(token(**GRANTED))) as acting:
            await acting.subscribe(["room.a"])
        await soon(lambda: asyncio.all_tasks() == before, "a task goes on")

    play(scenario())


def test_a_client_waits_for_its_application_as_long_as_for_its_stream() -> None:
    """A token that does not come counts as a failed attempt."""
    reasons: list[str] = []

    async def no_token() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        acting = Acting(
            "http://127.0.0.1:1",
            no_token,
            silence_s=0.01,
            attempts=2,
            on_down=lambda down: reasons.append(down.reason),
        )
        with pytest.raises(Unreachable):
            await anext(acting)

    play(scenario())
    assert reasons == ["get_token failed: TimeoutError (1006)"]


def test_a_client_gives_up_after_its_time() -> None:
    """Where the server accepts its stream, and says nothing."""

    async def scenario(url: str) -> None:
        with pytest.raises(Unreachable):
            await anext(Acting(url, giving("a-token"), give_up_after_s=0.1))

    with socket.create_server(("127.0.0.1", 0)) as discarding:
        play(scenario(f"http://127.0.0.1:{discarding.getsockname()[1]}"))


def test_a_silent_line_is_given_up(server: RunningServer, transport: Stream) -> None:
    """A line without any bytes is taken for lost, and the stream continues on another."""
    room = f"room.{uuid4().hex}"

    async def scenario() -> None:
        line, down = testing.Line(server.port), asyncio.Event()
        acting = Acting(
            line.url,
            giving(token(**GRANTED)),
            transports=[transport],
            silence_s=0.5,
            on_down=lambda _: down.set(),
        )
        async with acting:
            await acting.subscribe([room])
            line.stall()
            await down.wait()
            line.flow()
            server.post("/message", {"user": "x", "channel": room, "message": 1})
            assert await anext(messages(acting)) == 1
        line.close()

    play(scenario())
