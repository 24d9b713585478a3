"""Commands of clients with tokens over real sockets."""

import asyncio
import json
from contextlib import AbstractContextManager, closing, suppress
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.conftest import RunningServer, StartServer
from tests.http_client import http
from tests.streams import sse_items
from tests.token_client import SECRET, TokenClient, token
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from channelstream.api.client_info import LONGEST_BYTES
from channelstream.service.new_channels import OF_USER
from channelstream.transports.client_calls import ANSWER_BYTES
from channelstream.wire.command_texts import MAX_CHANNELS
from channelstream.wire.commanding import MAX_FAULTS


def publish(server: RunningServer, channel: str, message: Any) -> None:
    server.post("/message", {"user": "system", "channel": channel, "message": message})


def test_a_command_is_answered_before_the_first_event_of_its_channel(
    pushing: RunningServer, room: str
) -> None:
    """In the order in which the commands came, also of those in one list."""
    with closing(TokenClient(pushing.ws_url, token(subscribe=["room.*"], publish=["room.*"]))) as client:
        commands = [
            {"id": "s", "type": "subscribe", "channels": [room, room]},
            {"id": "p", "type": "publish", "channel": room, "message": {"text": "hi"}},
            {"id": "u", "type": "unsubscribe", "channels": [room, "never"]},
        ]
        client.stream.send(json.dumps(commands))
        found = [client.until(lambda item: item["type"] == "reply") for _ in commands]
        assert [each["id"] for each in found] == ["s", "p", "u"]
        assert found[0]["result"] == {"channels": [room], "subscribed": [room]}
        assert found[2]["result"] == {"channels": [], "unsubscribed": [room]}


def test_a_published_message_is_of_the_user_of_the_token(pushing: RunningServer, room: str) -> None:
    """With the id that the client gives it; a repetition is no second message."""
    uuid = str(uuid4())
    with closing(TokenClient(pushing.ws_url, token(channels=[room], publish=[room]))) as client:
        number = client.send("publish", channel=room, message=[1, None], uuid=uuid.upper(), user="bob")
        found = [client.item() for _ in range(3)]
        assert found[0]["type"] == "resumed"
        reply = next(each for each in found if each["type"] == "reply")
        assert (reply["id"], reply["result"]) == (number, {"uuid": uuid, "duplicate": False})
        sent = next(each for each in found if each["type"] == "message")
        assert (sent["user"], sent["uuid"], sent["message"]) == ("ann", uuid, [1, None])
        again = client.command("publish", channel=room, message=2, uuid=uuid)
        assert again == {"uuid": uuid, "duplicate": True}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("subscribe", {"channels": ["room.1", "other"]}),
        ("publish", {"channel": "other", "message": 1}),
        ("info", {"channels": ["room.1", "other"]}),
    ],
)
def test_what_is_not_granted_is_refused(pushing: RunningServer, kind: str, fields: dict[str, Any]) -> None:
    """As a whole: nothing of the command is done."""
    granted = {name: ["room.*"] for name in ("subscribe", "publish", "history")}
    with closing(TokenClient(pushing.ws_url, token(**granted))) as client:
        error = client.command(kind, **fields)
        assert error["code"] == "forbidden"
        assert "'other'" in error["message"]
        assert client.command("subscribe", channels=["room.2"])["channels"] == ["room.2"]


def test_info_has_what_is_granted_of_each_channel(pushing: RunningServer, room: str) -> None:
    """The history, or the users, or both; of a state only its public part."""
    seen, read = f"{room}.seen", f"{room}.read"
    settings = {name: {"store_history": True} for name in (seen, read)}
    pushing.post("/channel_config", settings)
    for name in (seen, read):
        publish(pushing, name, "old")
    given = token(
        channels=[seen, read], presence=[seen], history=[read], state={"a": 1, "b": 2}, public=["a"]
    )
    with closing(TokenClient(pushing.ws_url, given)) as client:
        info = client.command("info", channels=[seen, read])
        channels = info["channels"]
        assert channels[seen]["users"] == ["ann"]
        assert channels[seen]["history"] == []
        assert [each["message"] for each in channels[read]["history"]] == ["old"]
        assert not {"users", "total_users", "total_connections"} & channels[read].keys()
        assert info["users"] == [{"user": "ann", "state": {"a": 1}}]
        assert info["position"]


def test_info_has_a_bound(pushing: RunningServer, room: str) -> None:
    """A few bytes ask for all histories; of fewer channels they come."""
    rooms = [f"{room}.{number}" for number in range(3)]
    pushing.post("/channel_config", {name: {"store_history": True, "history_size": 2} for name in rooms})
    for name in rooms:
        publish(pushing, name, "x" * (LONGEST_BYTES // 2 - 10_000))
    with closing(TokenClient(pushing.ws_url, token(history=["room.**"]), max_bytes=None)) as client:
        error = client.command("info", channels=rooms)
        assert error["code"] == "invalid"
        assert "ask about fewer" in error["message"]
        assert set(client.command("info", channels=rooms[:2])["channels"]) == set(rooms[:2])


def test_a_client_sets_the_state_of_its_user(pushing: RunningServer) -> None:
    """Where the option client_state allows it."""
    user = uuid4().hex
    with closing(TokenClient(pushing.ws_url, token(user))) as client:
        assert client.command("state", user_state={"mood": "good"}) == {"changed": {"mood": "good"}}


def test_a_subscription_from_a_position_has_what_came_since(pushing: RunningServer, room: str) -> None:
    """The answer has the missed events with it; what cannot be proven is lost."""
    with closing(TokenClient(pushing.ws_url, token(channels=[room]))) as client:
        publish(pushing, room, "first")
        first = client.until(lambda item: item["type"] == "message")
        publish(pushing, room, "second")
        publish(pushing, room, "third")
    with closing(TokenClient(pushing.ws_url, token("bob", subscribe=["room.*"]))) as client:
        since = {room: first["position"], "room.new": "of-another-1"}
        done = client.command("subscribe", channels=[room, "room.new"], since=since)
        assert (done["recovered"], done["lost"]) == ([room], ["room.new"])
        assert [client.message(), client.message()] == ["second", "third"]
        publish(pushing, room, "fourth")
        assert client.message() == "fourth"


def test_commands_behind_connect_are_carried_out(pushing: RunningServer) -> None:
    """In the same text, and in texts that came before it was answered."""
    with connect(f"{pushing.ws_url}/ws") as stream:
        given = token(subscribe=["**"])
        subscribe = {"type": "subscribe", "id": 2, "channels": ["a"]}
        stream.send(json.dumps([{"type": "connect", "id": 1, "token": given}, subscribe]))
        stream.send(json.dumps(subscribe | {"id": 3, "channels": ["b"]}))
        ids: list[int] = []
        while len(ids) < 3:
            ids += [each["id"] for each in json.loads(stream.recv(PATIENCE_S)) if each["type"] == "reply"]
        assert ids == [1, 2, 3]


def test_faulty_commands_are_answered_until_they_are_too_many(pushing: RunningServer) -> None:
    """Each with its id, if it has one."""
    with closing(TokenClient(pushing.ws_url, token())) as client:
        client.stream.send('{"type": "heartbeat"}')
        client.stream.send('{"type": "subscribe", "id": 7}')
        error = client.until(lambda item: item["type"] == "reply")
        assert (error["id"], error["error"]["code"]) == (7, "invalid")
        client.stream.send("garbage")
        error = client.until(lambda item: item["type"] == "reply")
        assert (error["id"], error["error"]["code"]) == (None, "malformed")
        assert client.command("connect", token="x")["code"] == "invalid"
        assert client.end() == (1008, "too many faulty commands")


@pytest.mark.parametrize(
    ("heartbeat_s", "ping_s", "max_frames"), [(5, 60, 200), (60, 20, 200), (5, 60, 1)], ids=str
)
def test_texts_at_the_pace_of_the_javascript_client_are_taken(
    start_server: StartServer, heartbeat_s: int, ping_s: int, max_frames: int
) -> None:
    """However rare pings are, which come with heartbeats: 80 at once, and 5 a second, those of a stuck line at once."""
    server = start_server(
        "-s",
        SECRET,
        CHANNELSTREAM_TOKEN_MAX_AGE_S="3600",
        CHANNELSTREAM_HEARTBEAT_INTERVAL_S=str(heartbeat_s),
        CHANNELSTREAM_PING_INTERVAL_S=str(ping_s),
        CHANNELSTREAM_MAX_INBOUND_FRAMES=str(max_frames),
    )
    with closing(TokenClient(server.ws_url, token())) as client:
        for _ in range(80 + 2 * 60 * 5):
            client.stream.send("[]")
        assert client.command("unsubscribe", channels=["none"])["channels"] == []
        with suppress(ConnectionClosed):  # The server may end the stream before all of them are sent.
            for _ in range(20):
                client.stream.send("[]")
        assert client.end() == (1008, "too many frames")


def test_an_event_stream_with_a_token_takes_commands_by_requests(pushing: RunningServer, room: str) -> None:
    """Its first item has the conn_id that they need."""
    bearer = {"authorization": f"Bearer {token(channels=[room], subscribe=['room.*'], publish=['room.*'])}"}
    with http.stream("GET", f"{pushing.url}/sse", headers=bearer) as stream:
        items = sse_items(stream.iter_lines())
        greeting = next(items)
        assert (greeting["type"], greeting["id"], greeting["result"]["channels"]) == ("reply", None, [room])
        url = f"{pushing.url}/client?conn_id={greeting['result']['conn_id']}"
        commands = [
            {"id": 1, "type": "subscribe", "channels": [f"{room}x"]},
            {"id": 2, "type": "publish", "channel": f"{room}x", "message": "hi"},
            {"id": 3, "type": "publish", "channel": "other", "message": "hi"},
            {"id": 4},
        ]
        answers = http.post(url, json=commands, headers=bearer).json()
        assert [each["id"] for each in answers] == [1, 2, 3, 4]
        assert [each.get("error", {}).get("code") for each in answers] == [None, None, "forbidden", "invalid"]
        assert next(each["message"] for each in items if each["type"] == "message") == "hi"
        stranger = {"authorization": f"Bearer {token('bob')}"}
        assert http.post(url, json=commands, headers=stranger).json()["code"] == "unknown_connection"
        assert http.post(url, json=commands).json()["code"] == "bad_token"


def test_a_request_of_very_many_faulty_commands_is_answered_briefly(
    pushing: RunningServer, room: str
) -> None:
    """Each would have an answer that is fifty times as long."""
    bearer = {"authorization": f"Bearer {token(channels=[room])}"}
    with http.stream("GET", f"{pushing.url}/sse", headers=bearer) as stream:
        conn_id = next(sse_items(stream.iter_lines()))["result"]["conn_id"]
        answers = http.post(
            f"{pushing.url}/client?conn_id={conn_id}", json=[1] * 20_000, headers=bearer
        ).json()
    codes = [(each["id"], each["error"]["code"]) for each in answers]
    assert len(codes) <= MAX_FAULTS + 2
    assert set(codes) == {(None, "invalid")}
    assert answers[-1]["error"]["message"] == "Too many faulty commands: the rest is not read."


def test_a_request_of_very_many_long_answers_is_answered_in_part(pushing: RunningServer, room: str) -> None:
    """Each command has an answer, but those after the first long ones are not carried out: a few bytes ask for megabytes."""
    pushing.post("/channel_config", {room: {"store_history": True}})
    publish(pushing, room, "x" * (ANSWER_BYTES // 4))
    bearer = {"authorization": f"Bearer {token(channels=[room], history=[room])}"}
    with http.stream("GET", f"{pushing.url}/sse", headers=bearer) as stream:
        url = f"{pushing.url}/client?conn_id={next(sse_items(stream.iter_lines()))['result']['conn_id']}"
        commands = [{"id": number, "type": "info", "channels": [room]} for number in range(50)]
        answers = http.post(url, json=commands, headers=bearer).json()
        again = http.post(url, json=commands[-1], headers=bearer).json()
    assert [each["id"] for each in answers] == list(range(50))
    assert ["result" in each for each in answers] == [number < 4 for number in range(50)]
    assert {each["error"]["code"] for each in answers[4:]} == {"rate_limited"}
    assert {each["error"]["retry_after"] for each in answers[4:]} == {1}
    assert "result" in again[0]


def test_what_requests_join_at_once_is_sent_completely(pushing: RunningServer, room: str) -> None:
    """Each channel from its position, whatever joins meanwhile."""
    rooms = [f"{room}.{number}" for number in range(40)]
    granted = token(subscribe=["room.**"], channels=[room])
    bearer = {"authorization": f"Bearer {granted}"}
    pushing.post("/channel_config", {name: {} for name in rooms})
    position = pushing.post("/info", {"channels": [room]})["position"]
    pushing.post("/message", [{"user": "x", "channel": each, "message": each} for each in rooms])
    with http.stream("GET", f"{pushing.url}/sse", headers=bearer) as stream:
        items = sse_items(stream.iter_lines())
        url = f"{pushing.url}/client?conn_id={next(items)['result']['conn_id']}"

        async def join() -> None:
            async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
                commands = [
                    {"id": 1, "type": "subscribe", "channels": [each], "since": {each: position}}
                    for each in rooms
                ]
                await asyncio.gather(*(client.post(url, json=each, headers=bearer) for each in commands))

        asyncio.run(join())
        publish(pushing, room, "last")
        found: list[str] = []
        while "last" not in found:
            found += [each["message"] for each in [next(items)] if each["type"] == "message"]
        assert sorted(found) == sorted([*rooms, "last"])


class Rooms:
    """A client of event streams in two rooms of a test; what it knows of the second is older than what it has received."""

    def __init__(self, server: RunningServer, room: str) -> None:
        self.server = server
        self.first, self.second = f"{room}.1", f"{room}.2"
        self.bearer = {"authorization": f"Bearer {token(subscribe=['room.**'], channels=[self.first])}"}
        self.conn_id = ""
        server.post("/channel_config", {self.second: {}})
        self.before = server.post("/info", {"channels": [self.second]})["position"]
        publish(server, self.second, "old")

    def read(self, since: str = "") -> AbstractContextManager[httpx.Response]:
        query = {"since": since, "conn_id": self.conn_id}
        url = f"{self.server.url}/sse"
        return http.stream("GET", url, params=query, headers=self.bearer)

    def poll(self, since: str) -> Any:
        query = {"since": since, "conn_id": self.conn_id}
        url = f"{self.server.url}/listen"
        return http.get(url, params=query, headers=self.bearer).json()

    def join_second(self) -> Any:
        command = {
            "id": 1,
            "type": "subscribe",
            "channels": [self.second],
            "since": {self.second: self.before},
        }
        url = f"{self.server.url}/client?conn_id={self.conn_id}"
        return http.post(url, json=command, headers=self.bearer).json()[0]["result"]

    def resumed(self, since: str) -> Any:
        with self.read(since) as stream:
            return next(each for each in sse_items(stream.iter_lines()) if each["type"] == "resumed")


def test_what_a_request_has_missed_is_lost_with_its_stream(pushing: RunningServer, room: str) -> None:
    """The answer has come, and nobody knows whether the events have, until the client has a later position."""
    rooms = Rooms(pushing, room)
    with rooms.read() as stream:
        items = sse_items(stream.iter_lines())
        rooms.conn_id = next(items)["result"]["conn_id"]
        publish(pushing, rooms.first, "newer")
        newer = next(each for each in items if each["type"] == "message")
        done = rooms.join_second()
        assert (done["recovered"], done["lost"]) == ([rooms.second], [])
        missed = next(items)
        assert (missed["message"], missed["position"]) == ("old", newer["position"])
        publish(pushing, rooms.second, "last")
        last = next(items)["position"]
    for since in (newer["position"], ""):  # A stream may be lost with its first position, too.
        assert rooms.second in rooms.resumed(since)["lost"]
    assert rooms.second in rooms.resumed(last)["recovered"]


def test_between_two_polls_what_was_missed_is_lost(pushing: RunningServer, room: str) -> None:
    """The next one reads on from the client's position, which is later; what comes after that is recovered."""
    rooms = Rooms(pushing, room)
    [greeting, resumed] = rooms.poll("")
    rooms.conn_id = greeting["result"]["conn_id"]
    publish(pushing, rooms.first, "newer")
    newer = rooms.poll(resumed["position"])[-1]
    assert newer["message"] == "newer"
    done = rooms.join_second()
    assert (done["recovered"], done["lost"]) == ([], [rooms.second])
    publish(pushing, rooms.second, "last")
    assert [each.get("message") for each in rooms.poll(newer["position"])] == [None, "last"]


def test_a_client_brings_channels_into_being_only_so_often(pushing: RunningServer, room: str) -> None:
    """A pattern grants names without end, and each channel stays for days. What is there already is free."""
    user, names = uuid4().hex, [f"{room}-{number}" for number in range(OF_USER.at_once)]
    given = token(user, subscribe=["room.*"], publish=["room.*"])
    with closing(TokenClient(pushing.ws_url, given)) as client:
        lists = [names[start : start + MAX_CHANNELS] for start in range(0, OF_USER.at_once, MAX_CHANNELS)]
        for kind in ("subscribe", "unsubscribe"):
            for some in lists:
                assert "channels" in client.command(kind, channels=some)
        error = client.command(
            "subscribe",
            channels=[
                f"{room}-{number}" for number in range(OF_USER.at_once, OF_USER.at_once + MAX_CHANNELS)
            ],
        )
        assert error["code"] == "rate_limited"
        assert error["retry_after"] > 0
        assert client.command("subscribe", channels=lists[0])["subscribed"] == sorted(lists[0])
        commands = [
            {"id": f"p{number}", "type": "publish", "channel": f"{room}-new-{number}", "message": 1}
            for number in range(300)  # They take less than 300 seconds.
        ]
        client.stream.send(json.dumps(commands))
        replies = [client.until(lambda item: item["type"] == "reply") for _ in commands]
        assert "rate_limited" in {each["error"]["code"] for each in replies if "error" in each}


def test_a_fresh_token_changes_the_grants_in_place(pushing: RunningServer, room: str) -> None:
    """What is no longer granted is left, and an item says so; another user's token is refused."""
    with closing(TokenClient(pushing.ws_url, token(channels=[room], subscribe=["room.*"]))) as client:
        client.command("subscribe", channels=["room.left"])
        assert client.command("refresh", token=token("bob"))["code"] == "bad_token"
        number = client.send("refresh", token=token(channels=[f"{room}.new"], subscribe=[room]))
        left = client.until(lambda item: item["type"] == "unsubscribed")
        assert left["channels"] == ["room.left"]
        done = client.until(lambda item: item.get("id") == number)["result"]
        assert done["channels"] == [room, f"{room}.new"]
        assert client.command("subscribe", channels=["room.left"])["code"] == "forbidden"
