"""Sent messages, and the judge of the messages that one client received of one channel."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

PRIVATE = ""
"""The name under which private messages count in `recovered` and `lost`."""


@dataclass
class Message:
    """One message of a publisher.

    Attributes:
        channel: where to, or PRIVATE.
        only: the users it is for; None means all of the channel.
        attempts: how often it was sent; more than once where it was unknown whether it was accepted.
    """

    uuid: str
    publisher: int
    channel: str
    only: frozenset[str] | None
    attempts: int = 0

    def is_for(self, user: str) -> bool:
        return self.only is None or user in self.only


@dataclass
class Truth:
    """All messages, by the order in which they were first sent: a number names one.

    A publisher sends one message until it is acknowledged, then the next; so the numbers of each publisher are its order.

    Attributes:
        acknowledged: how many were answered with 200.
        complete: nothing more is added.
    """

    messages: list[Message] = field(default_factory=list)
    acknowledged: int = 0
    complete: bool = False
    _numbers: dict[str, int] = field(default_factory=dict)
    _lines: dict[str, dict[int, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, message: Message) -> None:
        number = self._numbers[message.uuid] = len(self.messages)
        self._lines[message.channel][message.publisher].append(number)
        self.messages.append(message)

    def number(self, item: dict[str, Any]) -> int:
        """Return the number of a message that was received; it must be unchanged."""
        number = self._numbers[item["uuid"]]
        assert (item["channel"] or PRIVATE) == self.messages[number].channel
        assert item["message"]["n"] == number
        return number

    def publishers(self, channel: str) -> list[int]:
        """Return the publishers that have sent something to a channel."""
        return list(self._lines[channel])

    def next(self, channel: str, publisher: int, after: int, user: str) -> int | None:
        """Return the next message of a publisher in a channel that this user must receive after a number."""
        line = self._lines[channel][publisher]
        for place in range(bisect_right(line, after), len(line)):
            if self.messages[line[place]].is_for(user):
                return line[place]
        return None


class Account:
    """The messages that one client has received of one channel.

    It must be, of each publisher, all messages in their order and each once. Only where the channel is reported lost,
    what was sent before that may be missing, or arrive once more if its publisher had to repeat it.

    Attributes:
        received: the numbers, in the order in which they arrived.
    """

    def __init__(self, truth: Truth, user: str, channel: str) -> None:
        self.received: list[int] = []
        self._truth = truth
        self._user = user
        self._channel = channel
        self._reported_at = 0
        self._last: dict[int, int] = {}
        self._ever: set[int] = set()

    def receive(self, number: int) -> None:
        """Take the next message.

        Raises:
            AssertionError: it is for others, was received before, or something before it is missing.
        """
        message = self._truth.messages[number]
        assert message.is_for(self._user), f"{self._user} received a message for others: {message}"
        last = self._last.get(message.publisher)
        if last is not None or number >= self._reported_at:
            due = self._next(message.publisher)
            assert number == due, (
                f"{self._user} in {self._channel!r}: received {number}, not {due}, after {last}"
            )
        assert number not in self._ever or message.attempts > 1, (
            f"{self._user} received {number} once more after a loss"
        )
        self._last[message.publisher] = number
        self._ever.add(number)
        self.received.append(number)

    def lose(self) -> None:
        """Accept that the channel is lost: from now on nothing may be missing."""
        self._reported_at = len(self._truth.messages)
        self._last.clear()

    def missing(self) -> list[int]:
        """Return the message that must come next of each publisher."""
        due = (self._next(publisher) for publisher in self._truth.publishers(self._channel))
        return [number for number in due if number is not None]

    def _next(self, publisher: int) -> int | None:
        after = self._last.get(publisher, self._reported_at - 1)
        return self._truth.next(self._channel, publisher, after, self._user)
