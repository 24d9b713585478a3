"""Presence channels of Pusher at random: what each client is sent of the others adds up to who is there, on all nodes.

`PUSHER_SEED` repeats a run.
"""

import json
import os
import socket
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest
from tests.conftest import CLUSTER, SQLITE
from tests.pusher_calls import done
from tests.pusher_client import line
from tests.waiting import eventually

SEED = int(os.environ.get("PUSHER_SEED", "0")) or Random().randrange(1, 10**6)
STEPS = 120
LINES = 8
USERS = ["ann", "bob", "cid"]
CHANNELS = ["presence-random-1", "presence-random-2"]


class Line:
    """A client, and whom it takes for present.

    Attributes:
        user: by channel, under which name it is there.
        present: by channel, whom it was sent as present.
        left: the channels that it has left at some time.
    """

    def __init__(self, server: Any) -> None:
        self._end = ExitStack()
        self.client = self._end.enter_context(line(server))
        self.user: dict[str, str] = {}
        self.present: dict[str, list[str]] = {}
        self.left: set[str] = set()

    def end(self, politely: bool) -> None:
        """Close the line by a close frame, or only its socket."""
        if not politely:
            self.client.stream.socket.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def join(self, channel: str, user: str) -> None:
        data = json.dumps({"user_id": user, "user_info": {"of": user}})
        auth = self.client.auth(channel, data)
        self.client.sends("pusher:subscribe", {"channel": channel, "auth": auth, "channel_data": data})
        self.user[channel] = user
        while channel not in self.present:
            self._take(self.client.next())

    def leave(self, channel: str) -> None:
        """Leave a channel; it may be sent events of it that the server has not written yet."""
        self.client.sends("pusher:unsubscribe", {"channel": channel})
        self.read()
        del self.user[channel], self.present[channel]
        self.left.add(channel)

    def read(self) -> None:
        """Take what was sent before the answer to a ping."""
        self.client.sends("pusher:ping")
        while (frame := self.client.next())["event"] != "pusher:pong":
            self._take(frame)

    def _take(self, frame: Any) -> None:
        channel, data = frame["channel"], json.loads(frame["data"])
        if channel in self.left and channel not in self.present and "succeeded" not in frame["event"]:
            return  # It was on its way.
        match frame["event"]:
            case "pusher_internal:subscription_succeeded":
                ids = data["presence"]["ids"]
                assert len(ids) == len(set(ids)) == data["presence"]["count"]
                assert data["presence"]["hash"] == {user: {"of": user} for user in ids}
                self.present[channel] = ids
            case "pusher_internal:member_added":
                assert data == {"user_id": data["user_id"], "user_info": {"of": data["user_id"]}}
                assert data["user_id"] not in self.present[channel], f"{data['user_id']} was added twice"
                assert data["user_id"] != self.user[channel], "a client was sent its own join"
                self.present[channel].append(data["user_id"])
            case "pusher_internal:member_removed":
                assert data["user_id"] in self.present[channel], f"{data['user_id']} was removed twice"
                self.present[channel].remove(data["user_id"])
            case event:
                raise AssertionError(f"unexpected: {event}")


@pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
def test_views_of_members_add_up(server: Any) -> None:
    """After each few steps the views of all clients, and the answer of the API, are those who are there."""
    random, lines = Random(SEED), list[Line]()
    print(f"PUSHER_SEED={SEED}")
    for number in range(STEPS):
        step(server, random, lines)
        if number % 10 == 9:
            compare(server, lines)
    while lines:
        lines.pop().end(politely=True)
    compare(server, lines)


def step(server: Any, random: Random, lines: list[Line]) -> None:
    if len(lines) < 2 or (len(lines) < LINES and random.random() < 0.2):
        lines.append(Line(server))
        return
    each, channel = random.choice(lines), random.choice(CHANNELS)
    if random.random() < 0.12:
        lines.remove(each)
        each.end(politely=random.random() < 0.5)
    elif channel in each.user:
        each.leave(channel)
    else:
        each.join(channel, random.choice(USERS))


def compare(server: Any, lines: list[Line]) -> None:
    for channel in CHANNELS:
        there = sorted({each.user[channel] for each in lines if channel in each.user})

        def is_so(channel: str = channel, there: list[str] = there) -> bool:
            users = done(server, "GET", f"/channels/{channel}/users")["users"]
            for each in lines:
                each.read()
            views = [sorted(each.present[channel]) for each in lines if channel in each.user]
            return sorted(user["id"] for user in users) == there and all(view == there for view in views)

        eventually(is_so, f"PUSHER_SEED={SEED}: not everybody sees {there} in {channel}")
