"""No sequence of commands of a client reaches a channel that its token does not name."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.token_client import SECRET, token

from channelstream.apps.client import Client
from channelstream.apps.keys import name_of
from channelstream.config import Settings
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.http_head import read_head
from channelstream.core.policy import Policy
from channelstream.http.request import Part, Request
from channelstream.server import build
from channelstream.transports.client_calls import ClientCalls
from channelstream.transports.streams import Streams
from channelstream.transports.token_admission import Asked, TokenAdmission
from channelstream.wire.client_commands import Outcome
from channelstream.wire.command_texts import Fault, read_commands
from channelstream.wire.commanding import reply_items

HEAD = read_head(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")
CHANNELS = ("news", "news.", "room", "room.", "room.1", "room.1.chat", "room.*", "other", "\x1fshop\x1fnews")
REACHED = {
    "news": {"news"},
    "room.*": {"room.1", "room.*"},
    "room.**": {"room.1", "room.1.chat", "room.*"},
    "*.1": {"room.1"},
    "other": {"other"},
}
"""What each pattern has of the channels; written by hand."""
PATTERNS = st.lists(st.sampled_from(sorted(REACHED)), max_size=2)
NAMES = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3)
GRANTS = ("subscribe", "publish", "history", "presence")


@dataclass(frozen=True)
class Given:
    """What a token says.

    Attributes:
        channels: what its connection joins by itself.
    """

    user: str
    channels: tuple[str, ...]
    grants: dict[str, list[str]] = field(default_factory=dict)

    def text(self) -> str:
        return token(self.user, channels=list(self.channels), **self.grants)

    def reaches(self, *grants: str) -> set[str]:
        """Return the channels of these grants."""
        return {name for each in grants for pattern in self.grants.get(each, ()) for name in REACHED[pattern]}


TOKENS = st.builds(
    Given,
    st.just("ann"),
    st.lists(st.sampled_from(CHANNELS[:5]), max_size=2).map(tuple),
    st.fixed_dictionaries(dict.fromkeys(GRANTS, PATTERNS)),
)
STRANGERS = st.builds(
    Given, st.just("bob"), st.just(CHANNELS), st.just({key: ["other", "room.**"] for key in GRANTS})
)
COMMANDS = st.one_of(
    st.builds(lambda names: {"type": "subscribe", "channels": names}, NAMES),
    st.builds(
        lambda names: {"type": "subscribe", "channels": names, "since": dict.fromkeys(names, "e-1")}, NAMES
    ),
    st.builds(lambda names: {"type": "unsubscribe", "channels": names}, NAMES),
    st.builds(
        lambda name: {"type": "publish", "channel": name, "message": "m", "user": "bob"},
        st.sampled_from(CHANNELS),
    ),
    st.builds(lambda names: {"type": "info", "channels": names}, NAMES),
    st.builds(lambda: {"type": "state", "user_state": {"a": 1}, "user": "bob"}),
    st.one_of(TOKENS, STRANGERS),
)
"""Commands, and tokens for refreshes."""


class Scene:
    """A client of a server, and what has happened there."""

    def __init__(self, streams: Streams, given: Given) -> None:
        self._streams = streams
        self.given = given
        self.published: list[Message] = []
        streams.node.signals.accepted.connect(self._accepted)

    def _accepted(self, entry: Entry) -> None:
        if isinstance(entry.event, Message):
            self.published.append(entry.event)

    async def connect(self) -> None:
        admission = TokenAdmission(self._streams, None)
        self.connection, client, _ = await admission.admit(Asked(self.given.text(), "", ""), HEAD)
        self._actions = self._streams.actions(self.connection, client, self._admit)

    def _admit(self, client: Client) -> None:
        assert client.user == "ann"

    async def do(self, command: dict[str, Any] | Given) -> None:
        """Send a command, and check what it has reached."""
        before = len(self.published)
        sent = {"type": "refresh", "token": command.text()} if isinstance(command, Given) else command
        [action] = read_commands(json.dumps({"id": 1} | sent).encode())
        assert not isinstance(action, Fault)
        outcome = await self._actions.outcome(action)
        if isinstance(command, Given) and command.user == "ann":
            self.given = command
        self._check(sent, outcome)
        for each in self.published[before:]:
            assert name_of(each.channel or "") in self.given.reaches("publish")
            assert each.user == "ann"

    def _check(self, sent: dict[str, Any], outcome: Outcome) -> None:
        own = self.given.reaches("subscribe") | set(self.given.channels)
        assert {name_of(key) for key in self.connection.channels} <= own
        [*_, reply] = map(json.loads, reply_items(1, outcome, self._streams.protocols.formats[0]))
        if sent["type"] != "info" or "error" in reply:
            return
        for name, described in reply["result"].get("channels", {}).items():
            if name not in self.given.reaches("presence"):
                assert not {"users", "total_users"} & described.keys()
            if name not in self.given.reaches("history"):
                assert described["history"] == []
            assert name in self.given.reaches("history", "presence")


@given(TOKENS, st.lists(COMMANDS, max_size=12))
def test_no_sequence_of_commands_reaches_a_channel_that_is_not_granted(
    first: Given, commands: list[dict[str, Any] | Given]
) -> None:
    """Neither by joining, publishing and reading, nor by fresh tokens, which others cannot use for it."""

    async def scenario() -> None:
        server = build(Settings(secret=SECRET, admin_secret="y", token_max_age_s=3600, client_state=True))
        await server.node.start()
        other = server.streams.services.default
        await other.configure({name: {"store_history": True} for name in CHANNELS[:8]})
        scene = Scene(server.streams, first)
        await scene.connect()
        for command in commands:
            await scene.do(command)
        assert {user.name for user in await other.users(None)} == {"ann"}
        await server.node.close()

    asyncio.run(scenario())


def test_other_work_goes_on_between_the_commands_of_a_request() -> None:
    """Of which a client may send thousands in one text."""

    async def scenario() -> int:
        server = build(Settings(secret=SECRET, admin_secret="y", token_max_age_s=3600, client_state=True))
        await server.node.start()
        scene = Scene(server.streams, Given("ann", ("news",)))
        await scene.connect()
        calls = ClientCalls(server.streams, TokenAdmission(server.streams, None))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        texts = [{"type": "state", "user_state": {"a": number}} for number in range(100)]
        query = f"/client?conn_id={scene.connection.id}"
        lines = f"POST {query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {scene.given.text()}\r\n\r\n"
        await calls.answer(Request(read_head(lines.encode()), Sent(json.dumps(texts).encode()), Policy()))
        counting.cancel()
        await server.node.close()
        return turns

    assert asyncio.run(scenario()) >= 99


def test_a_token_that_is_revoked_before_the_body_of_its_request_has_come() -> None:
    """None of the commands is carried out; the connection, which another token has opened, stays."""

    async def scenario() -> tuple[list[Any], list[Message]]:
        server = build(Settings(secret=SECRET, admin_secret="y", token_max_age_s=3600))
        await server.node.start()
        scene = Scene(server.streams, Given("ann", ("news",)))
        await scene.connect()
        calls = ClientCalls(server.streams, TokenAdmission(server.streams, None))
        commands = [{"id": each, "type": "publish", "channel": "news", "message": each} for each in (1, 2)]
        lines = f"POST /client?conn_id={scene.connection.id} HTTP/1.1\r\nhost: x\r\n"
        lines += f"authorization: Bearer {token('ann', publish=['news'], jti='t-1')}\r\n\r\n"

        class Late(Sent):
            async def receive(self) -> Part:
                await server.node.revocations.revoke("t-1", 3600, is_user=False)
                return await super().receive()

        request = Request(read_head(lines.encode()), Late(json.dumps(commands).encode()), Policy())
        answer = await calls.answer(request)
        assert server.node.connection(scene.connection.id) is scene.connection
        await server.node.close()
        assert isinstance(answer.body, bytes)
        return json.loads(answer.body), scene.published

    answers, published = asyncio.run(scenario())
    errors = [(each["id"], each["error"]["code"], each["error"]["retry_after"]) for each in answers]
    assert errors == [(1, "bad_token", 1), (2, "bad_token", 1)]
    assert published == []


class Sent:
    """A body that has come whole (`http.request.Source`)."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def receive(self) -> Part:
        return self._body, False

    def line(self) -> None:
        return None
