"""What every `EventLog` must do with one message and its edits and deletions, drawn at random, for all users or for some.

`CHANGES_SEED` draws others. Who is excluded may show an older text than others.
"""

import os
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from tests.engines.conformance.lab import ALWAYS, Lab

from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited

USERS = ("ann", "bob", "cid")
DRAWS = 25
FIRST = int(os.environ.get("CHANGES_SEED", "0"))

Text = tuple[bytes, str, str]
"""What a client shows of a message: its payload, user and time."""


def drawn(chance: random.Random, is_private: bool) -> Iterator[tuple[type[Event], Any, dict[str, Any]]]:
    """Yield messages, edits and deletions: the type, the users (None: all of the channel), and what it names."""
    for number in range(chance.randint(3, 8)):
        [kind] = chance.choices((Message, MessageEdited, MessageDeleted), (4, 5, 1))
        some = chance.sample(USERS, chance.randint(1, 3))
        named: dict[str, Any] = {}
        if kind is Message:
            named = {"payload": b'"first"', "user": "u", "timestamp": "t"}
        elif kind is MessageEdited:
            parts = {"payload": b'"%d"' % number, "user": f"u{number}", "timestamp": f"t{number}"}
            named = {name: value for name, value in parts.items() if chance.random() < 0.5}
            named["edited"] = f"e{number}"
        yield kind, some if is_private or chance.random() < 0.4 else None, named


class Play:
    """What a drawn sequence did in a lab, with users and a channel of its own.

    Attributes:
        received: the events that each user was sent.
    """

    def __init__(self, lab: Lab, seed: int, *, excludes: bool = False) -> None:
        """Publish the sequence, some events at once.

        Args:
            excludes: half of the events exclude some users.
        """
        self._lab = lab
        self._excluding = random.Random(seed) if excludes else None
        self._names = {name: f"{name}-{seed}" for name in (*USERS, "channel", "message")}
        chance = random.Random(seed)
        self._channel = self._names["channel"] if chance.random() < 0.5 else None
        self.received: dict[str, list[Event]] = {user: [] for user in USERS}
        self._moments: list[tuple[dict[str, int], dict[str, Text | None]]] = []
        for user in USERS:
            lab.connect(self._names[user], self._names["channel"])
        self._mark()
        events = [self._event(*each) for each in drawn(chance, self._channel is None)]
        while events:
            count = chance.randint(1, 3)
            self._publish(events[:count])
            del events[:count]

    def _event(self, kind: type[Event], users: Iterable[str] | None, named: dict[str, Any]) -> Event:
        only = None if users is None else self._some(users)
        if self._excluding is not None and self._excluding.random() < 0.5:
            named["exclude"] = self._some(self._excluding.sample(USERS, self._excluding.randint(1, 2)))
        return kind(uuid=self._names["message"], channel=self._channel, only=only, **named)

    def _some(self, users: Iterable[str]) -> frozenset[str]:
        return frozenset(self._names[user] for user in users)

    def _publish(self, events: list[Event]) -> None:
        before = len(self._lab.received())
        self._lab.publish(*events)
        for user, received in self.received.items():
            received += self._for(user, self._lab.received()[before:])
        self._mark()

    def _for(self, user: str, events: Iterable[Event]) -> list[Event]:
        name, uuid = self._names[user], self._names["message"]
        return [event for event in events if event.uuid == uuid and event.is_for(name, ALWAYS)]

    def _mark(self) -> None:
        """Remember how far the log is, and what each user shows now."""
        heads = {user: self._lab.head(self._channel or self._names[user]) for user in USERS}
        self._moments.append((heads, {user: shown(events) for user, events in self.received.items()}))

    def resumed(self) -> Iterator[tuple[str, Text | None, Text | None]]:
        """Yield each user with what it shows at the end, and what it would show had it resumed from some moment.

        Not where the log cannot say what it would show.
        """
        for heads, texts in self._moments:
            for user in USERS:
                start = {self._channel or "private": heads[user]}
                replay = self._lab.replay(self._names[user], **start)
                if replay.lost:
                    continue
                events = self._for(user, [entry.event for entry in replay.entries])
                # An edit for some users may be all they get (docs/resume.md).
                if texts[user] is not None or not events or not isinstance(events[0], MessageEdited):
                    yield user, shown(self.received[user]), shown(events, texts[user])


def shown(events: Iterable[Event], text: Text | None = None) -> Text | None:
    """Return what a client shows after these events; None if it shows nothing."""
    for event in events:
        if isinstance(event, Message):
            text = event.payload, event.user, event.timestamp
        elif isinstance(event, MessageDeleted):
            text = None
        elif isinstance(event, MessageEdited) and text is not None:
            text = event.payload or text[0], event.user or text[1], event.timestamp or text[2]
    return text


@pytest.mark.usefixtures("payloads_within_the_log")
def test_a_client_that_resumes_shows_what_one_that_stayed_does(lab: Lab) -> None:
    """From every moment: no edit of an edit loses what the older one has changed."""
    for seed in range(FIRST, FIRST + DRAWS):
        for user, stayed, resumed in Play(lab, seed).resumed():
            assert resumed == stayed, f"seed {seed}, {user}"


@pytest.mark.usefixtures("payloads_within_the_log")
def test_no_user_is_sent_a_message_twice(lab: Lab) -> None:
    """Although the message and its changes exclude some: each user has it once, in one form."""
    for seed in range(FIRST, FIRST + 3 * DRAWS):
        for user, received in Play(lab, seed, excludes=True).received.items():
            assert sum(isinstance(event, Message) for event in received) <= 1, f"seed {seed}, {user}"
