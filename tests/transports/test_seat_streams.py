"""What the stream of a connection with a seat is sent while it is live, slow, and in between; over one shard and several."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.engines.conformance import Setup
from tests.engines.test_memory import memory_engine
from tests.redis_server import RedisServer, running_redis
from tests.transports.test_shards import PATIENCE_S, node_of
from tests.waiting import soon

from channelstream.apps.app import App
from channelstream.clock import RandomIds, SystemClock
from channelstream.close_codes import CloseCode
from channelstream.core.events import Message
from channelstream.core.hub import Hub
from channelstream.core.timestamps import stamp
from channelstream.core.user import UserUpdate
from channelstream.pacing import FlushPacer
from channelstream.service import LastMessages, Memberships, Node, NodeLimits, Service
from channelstream.service.last_messages import KeptMessage
from channelstream.transports.attachment import Attachment
from channelstream.transports.member_actions import MemberActions
from channelstream.transports.reading import Change
from channelstream.wire.channelstream import V07
from channelstream.wire.client_commands import Join, Joined, Outcome
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

ROOM = "room"
EMPTY = UserUpdate({}, {})
new_id = RandomIds().new


class Tape:
    """A stream that keeps its items."""

    session = PROTOCOLS.session_of(V07, Framing.POLL)
    format = session.format

    def __init__(self) -> None:
        self.items: list[str] = []

    def write(self, data: bytes) -> None:
        for item in json.loads(data):
            if item["type"] == "presence":
                self.items.append(f"{item['user']} {item['message']['action']}")
            elif item["type"] == "message":
                self.items.append(item["message"])

    write_first = write

    def close(self, code: CloseCode, reason: str) -> None:
        raise AssertionError(reason)

    def caught_up(self) -> None:
        """Nothing is waited for."""

    def buffered_bytes(self) -> int:
        return 0


class Client:
    """A connection with a stream, at a node."""

    def __init__(self, node: Node, conn_id: str) -> None:
        self._node, self._conn_id = node, conn_id
        self.memberships = Memberships(Service(App(), node))
        self.tape = Tape()

    async def open(self) -> None:
        await self._node.connect(self._conn_id, f"anonymous {self._conn_id}", V07, {}, EMPTY)
        connection = self._node.connection(self._conn_id)
        assert connection is not None
        self.attachment = Attachment(self._node, connection, self.tape)
        self.attachment.open(None)

    async def join_cache(self, member: str | None) -> Joined:
        """Join the room as a client of a cache channel does; return the answer."""
        connection = self._node.connection(self._conn_id)
        assert connection is not None
        found: list[Outcome] = []

        async def make() -> Change:
            actions = MemberActions(Service(App(), self._node), connection)
            found.append(await actions.carry_out(Join(ROOM, ROOM, member, last_s=60.0)))
            return Change(b'[{"type":"message","message":"answer"}]', {})

        await self.attachment.change(make)
        assert isinstance(found[0], Joined)
        return found[0]

    async def join(self, name: str, then: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Join the room as a command of the client does: the stream is stalled meanwhile."""

        async def make() -> Change:
            assert await self.memberships.join_as(self._conn_id, ROOM, name, {})
            if then is not None:
                await then()
            _, offset = await self.memberships.members(ROOM)
            return Change(b'[{"type":"message","message":"answer"}]', {}, {ROOM: offset})

        await self.attachment.change(make)

    async def leave(self) -> None:
        """Leave the room, as a call of an application does: the stream is not stalled."""
        assert await self.memberships.leave(self._conn_id, ROOM)


async def say(node: Node, text: str, **more: Any) -> None:
    payload, now = json.dumps(text).encode(), stamp(node.clock.wall())
    message = Message(uuid=new_id(), channel=ROOM, user="app", payload=payload, timestamp=now, **more)
    await node.publish([message])


def node_in_memory() -> Node:
    pacer = FlushPacer(lambda: hub.flush(), lambda: hub.waiting_events, SystemClock().steady)
    hub = Hub(PROTOCOLS.formats, pacer.request_flush, pacer.end_pause)
    return Node(memory_engine(Setup()), hub, SystemClock(), new_id, NodeLimits())


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


Play = Callable[[Callable[[Client, Client, Node], Awaitable[None]]], None]


@pytest.fixture(params=["memory", 1, 3])
def play(request: pytest.FixtureRequest) -> Play:
    """Run a test with two clients of a node, or of two nodes on one Redis."""

    def run(life: Callable[[Client, Client, Node], Awaitable[None]]) -> None:
        async def whole() -> None:
            if request.param == "memory":
                nodes = [node_in_memory()]
            else:
                redis = request.getfixturevalue("redis")
                redis.cli("FLUSHALL")
                nodes = [node_of(redis, request.param) for _ in range(2)]
            for node in nodes:
                await node.start()
            clients = [Client(nodes[0], "c1"), Client(nodes[-1], "c2")]
            for client in clients:
                await client.open()
            async with asyncio.timeout(PATIENCE_S):
                await life(*clients, nodes[-1])
            for node in nodes:
                await node.close()

        asyncio.run(whole())

    return run


def test_a_member_receives_what_follows_its_join(play: Play) -> None:
    """After the answer, with what came while it joined; never what is about itself."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        await say(node, "before")
        await ann.join("ann", lambda: say(node, "meanwhile"))
        await bob.join("bob")
        await say(node, "after")
        await soon(lambda: "after" in bob.tape.items)
        await bob.leave()
        await soon(lambda: "bob parted" in ann.tape.items)
        assert ann.tape.items == ["answer", "meanwhile", "bob joined", "after", "bob parted"]
        assert bob.tape.items == ["answer", "after"]

    play(life)


def test_a_newcomer_misses_no_message_and_meets_each_member_once(play: Play) -> None:
    """A client that sees it join may greet it before the members are read that its answer has."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        async def meanwhile() -> None:
            await bob.join("bob")
            await say(node, "welcome")

        await ann.join("ann", meanwhile)
        await say(node, "after")
        await bob.leave()
        await soon(lambda: "bob parted" in ann.tape.items)
        assert ann.tape.items == ["answer", "welcome", "after", "bob parted"]

    play(life)


def test_a_slow_member_is_sent_from_the_log_what_it_missed(play: Play) -> None:
    """In order and once, and nothing about itself: neither its second tab, nor its own leave and return."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        await bob.join("bob")
        await ann.join("ann")
        ann.attachment.pause()
        await say(node, "one")
        await bob.leave()
        await ann.leave()
        await say(node, "while it was not there")
        assert await ann.memberships.join_as("c1", ROOM, "ann", {})
        await bob.join("ann")
        await bob.leave()
        await bob.join("bob")
        await say(node, "two")
        ann.attachment.resume()
        await soon(lambda: "two" in ann.tape.items)
        assert ann.tape.items == ["answer", "bob joined", "two"]

    play(life)


def test_a_member_that_left_is_sent_nothing_more(play: Play) -> None:
    """Although its connection is open, and in other channels."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        await ann.join("ann")
        await bob.join("bob")
        await soon(lambda: "bob joined" in ann.tape.items)
        await ann.leave()
        await say(node, "one")
        await soon(lambda: "one" in bob.tape.items)
        assert ann.tape.items == ["answer", "bob joined"]
        assert bob.tape.items == ["answer", "ann parted", "one"]

    play(life)


@pytest.mark.parametrize("member", [None, "ann"])
@pytest.mark.parametrize(
    ("meanwhile", "in_answer", "sent"),
    [
        ([], "before", ["answer", "after"]),
        ([{}], None, ["answer", "meanwhile", "after"]),
        ([{"exclude_connection": "c1"}], "meanwhile", ["answer", "after"]),
    ],
    ids=["none", "for all", "for others"],
)
def test_a_last_message_is_sent_once(
    play: Play,
    member: str | None,
    meanwhile: list[dict[str, str]],
    in_answer: str | None,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the answer, or by the stream if it was published between the join and the read of what the channel keeps."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        await LastMessages(Service(App(), node)).keep([ROOM])
        await say(node, "before")
        of = LastMessages.of

        async def later(self: LastMessages, channel: str, keep_s: float) -> KeptMessage | None:
            for more in meanwhile:
                await say(node, "meanwhile", **more)
            return await of(self, channel, keep_s)

        monkeypatch.setattr(LastMessages, "of", later)
        joined = await ann.join_cache(member)
        assert (joined.last and json.loads(joined.last.payload), joined.misses_last) == (in_answer, False)
        await say(node, "after")
        await soon(lambda: "after" in ann.tape.items)
        assert ann.tape.items == sent

    play(life)


def test_a_last_message_that_the_stream_has_sent_is_in_the_answer(play: Play) -> None:
    """To a client that was in the channel although it was answered that it is not, as where an engine fails twice."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        await LastMessages(Service(App(), node)).keep([ROOM])
        await ann.join_cache(None)
        await say(node, "one")
        await soon(lambda: "one" in ann.tape.items)
        joined = await ann.join_cache(None)
        assert joined.last is not None
        assert json.loads(joined.last.payload) == "one"

    play(life)


def test_a_channel_may_keep_no_last_message(play: Play) -> None:
    """Its answer says so."""

    async def life(ann: Client, bob: Client, node: Node) -> None:
        joined = await ann.join_cache(None)
        assert (joined.last, joined.misses_last) == (None, True)

    play(life)
