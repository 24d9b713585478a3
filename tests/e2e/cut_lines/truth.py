"""Published events, in the order of the log, and the judge of the events of a stream."""

from dataclasses import dataclass, field
from typing import Any

PRIVATE = ""
"""The name under which private messages count in `recovered` and `lost`."""
Key = tuple[str, str]
"""What identifies an event: its type and the uuid; a message is edited or deleted once at most."""


@dataclass(frozen=True)
class Published:
    """One event that was sent to the server, with its recipients; None means all of the channel.

    Attributes:
        text: the number in its payload, which a deletion does not have.
    """

    key: Key
    text: int | None
    channel: str
    only: frozenset[str] | None
    exclude: frozenset[str]

    def is_for(self, user: str, channels: frozenset[str]) -> bool:
        is_meant = self.only is None or user in self.only
        return is_meant and user not in self.exclude and self.channel in channels | {PRIVATE}


class Truth:
    """The one publisher sends one request after the other, so that its order is that of the log.

    Attributes:
        events: all that was sent, acknowledged or on its way.
        acknowledged: how many of them the server has accepted for certain.
        complete: nothing more is added.
    """

    def __init__(self) -> None:
        self.events: list[Published] = []
        self.acknowledged = 0
        self.complete = False
        self._numbers: dict[Key, int] = {}
        self._positions: dict[int, str] = {}

    def send(self, event: Published) -> None:
        self._numbers[event.key] = len(self.events)
        self.events.append(event)

    def number(self, item: dict[str, Any], acknowledged: int) -> int:
        """Return an item's number; its position must be the same for all clients, and its text the current one.

        Args:
            acknowledged: how many events had been accepted when the client asked for its stream.
        """
        number = self._numbers[item["type"], item["uuid"]]
        event = self.events[number]
        assert (item["channel"] or PRIVATE) == event.channel
        assert self._positions.setdefault(number, item["position"]) == item["position"]
        edit = self._numbers.get(("message:edit", item["uuid"]))
        texts = {event.text} if edit is None else {event.text, self.events[edit].text}
        if edit is not None and edit < acknowledged:
            texts = {self.events[edit].text}
        assert (item.get("message") or {}).get("n") in texts, (item, texts)
        return number

    def deletion_of(self, number: int) -> int | None:
        """Return the number of the deletion of a message."""
        kind, uuid = self.events[number].key
        return self._numbers.get(("message:delete", uuid)) if kind == "message" else None

    def numbers_for(self, user: str, channels: frozenset[str]) -> list[int]:
        return [number for number, event in enumerate(self.events) if event.is_for(user, channels)]


@dataclass
class StreamRecord:
    """The events that one stream, or one poll, sent its client; events are numbers in the truth.

    Attributes:
        since: the last event its client had handled before, -1 for none.
        acknowledged: how many events were accepted before it was asked for.
        lost_before: how many were sent when a channel was last reported lost to its client.
        sent: how many were sent when its client received `resumed`; None before.
    """

    since: int
    acknowledged: int
    lost_before: dict[str, int] = field(default_factory=dict)
    sent: int | None = None
    recovered: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    received: list[int] = field(default_factory=list)

    def check(self, truth: Truth, user: str, channels: frozenset[str]) -> None:
        """Compare with the truth.

        Raises:
            AssertionError: something was doubled, missing, out of order, for others, or replayed though lost.
        """
        if self.sent is None:
            assert not self.received, "events before resumed"
            return
        assert self.recovered | self.lost == channels | {PRIVATE}
        assert not self.recovered & self.lost
        assert self.received == self._due(truth, user, channels), self

    def _due(self, truth: Truth, user: str, channels: frozenset[str]) -> list[int]:
        """Return the events this stream had to send up to the last one it sent."""
        due: list[int] = []
        live: set[str] = set(self.recovered)
        for number in range(self.since + 1, max(self.received, default=-1) + 1):
            event = truth.events[number]
            deleted = truth.deletion_of(number)
            if deleted is not None and (deleted < self.acknowledged or number not in self.received):
                continue
            if event.is_for(user, channels) and self._is_due(number, event.channel, live):
                live.add(event.channel)
                due.append(number)
        return due

    def _is_due(self, number: int, channel: str, live: set[str]) -> bool:
        """A lost channel continues somewhere between the request and `resumed`; from there on nothing is missing."""
        assert self.sent is not None
        if number < self.lost_before.get(channel, 0):
            return number in self.received
        if channel in live or number >= self.sent:
            return True
        return number >= self.acknowledged and number in self.received
