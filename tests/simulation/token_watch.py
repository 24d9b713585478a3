"""The promises for streams of clients with tokens, besides those for every stream.

Some events come twice as far as positions are concerned: those that a channel has had before its client joined it, which
follow the answer to the command. They have the position of the stream, and are checked here.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.simulation.books import Stay
from tests.simulation.checker import TYPES, Checker, Watch
from tests.simulation.failure import Failure, demand
from tests.simulation.world import World

from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.position import Position

CONTROLS = {"reply", "expiring", "unsubscribed"}
"""Items that are no events."""


@dataclass(frozen=True)
class Promise:
    """Events before a join that the client was promised.

    Attributes:
        stay: that began with the join.
    """

    connection: Connection
    channel: str
    stay: Stay
    entries: list[Entry]


class Commanding(Protocol):
    """A client that sends commands."""

    user: str
    position: str
    busy: bool
    named: dict[str, set[str]]

    def took(self, item: dict[str, Any]) -> None:
        """Take an item that is no event."""

    def took_resumed(self, lost: Sequence[str]) -> None:
        """Take the list of lost channels."""


class TokenWatch(Watch):
    """One stream of such a client.

    Attributes:
        announced: channels of which the client knows, or may know soon, that it is in them.
    """

    def __init__(self, client: Commanding, world: World, connection: Connection, since: str) -> None:
        super().__init__(client, world, connection, since)
        self.announced: set[str] = set(connection.channels)
        self._written_as: defaultdict[tuple[str, str, str], list[Entry | None]] = defaultdict(list)
        self._last_missed: dict[Stay, int] = {}
        self._written_to = -1
        self._answers = False

    def sent(self, items: Sequence[dict[str, Any]]) -> None:
        self._answers = bool(items) and items[0]["type"] == "reply"
        try:
            live = [item for item in items if self._is_live(item)]
        except Failure as failure:
            self.world.failures.append(failure)
        else:
            super().sent(live)

    def unseen(self, items: Sequence[dict[str, Any]]) -> None:
        """Look at what is written to a client that has gone."""
        for item in items:
            if "position" in item and item["type"] != "resumed":
                self._note_missed(item)

    def _is_live(self, item: dict[str, Any]) -> bool:
        """Check an item as it is written; return whether it is an event that has a position of its own."""
        kind = item["type"]
        if kind == "resumed":
            self.led(item)
            self._written_to = _offset(item["position"])
        elif kind in CONTROLS:
            result = item.get("result", {})
            self.announced |= {*result.get("subscribed", ()), *result.get("channels", ())}
        elif "position" in item and not self._note_missed(item):
            channel = item.get("channel")
            known = channel is None or self._is_same_stay(channel) or channel in self.announced
            demand(known, "an event before the answer that names its channel:", item)
            self._written_to = max(self._written_to, _offset(item["position"]))
            self._written_as[_key(item)].append(None)
            return True
        return False

    def _note_missed(self, item: dict[str, Any]) -> bool:
        """Return whether an event is older than the position of the stream, since its channel was joined by a command."""
        channel = item.get("channel")
        if channel is None or self._is_same_stay(channel) or not self._stays_in(channel):
            return False
        stay = self._stays_in(channel)[-1]
        entries = [
            each
            for each in self.truth.places.get((channel, ""), ())
            if each.event.uuid == item["uuid"] and item["type"] in TYPES[type(each.event)]
        ]
        offset = _offset(item["position"])
        here = next((each for each in entries if each.position == item["position"]), None)
        if here is not None and self.connection.receives(here.event) and offset > self._written_to:
            # It has its own place among the events of the stream, or is the only one that is sent apart.
            if not self._answers and offset <= (stay.joined or 0):
                stay.apart = offset
            return False
        missed = [each for each in entries if each.offset <= (stay.joined or 0)]
        if not missed:
            return False
        self._written_to = max(self._written_to, offset)
        if not self._answers:  # The answer comes elsewhere, and may be all that the client receives.
            stay.apart = offset
        # Of one id there may be several, each for other users.
        entry = max(missed, key=lambda each: (self.connection.receives(each.event), each.offset))
        if item["type"] in ("message", "message:edit") and "message" in item:
            text = self.truth.text(entry.position, self.client.user)
            demand(text is not None and json.loads(text) == item["message"], "missed in an old form:", item)
        demand(entry.offset > self._last_missed.get(stay, -1), "missed out of order or twice:", item)
        self._last_missed[stay] = entry.offset
        self._written_as[_key(item)].append(entry)
        return True

    def _proves(self, name: str, start: int) -> bool:
        apart = self._stays_in(name)[-1].apart
        has_apart = start > apart if self.since else apart < 0
        return has_apart and super()._proves(name, start)

    def missed(self, item: dict[str, Any]) -> Entry | None:
        """Return the event of an item that came before its channel was joined; None if it is another one."""
        noted = self._written_as.get(_key(item))  # A client may ask again for what it has been sent.
        return noted.pop(0) if noted else None

    def received_missed(self, entry: Entry, text: str) -> None:
        """Check an event that the client has missed, with the position that it has been given."""
        channel = entry.event.channel or ""
        position = Position.parse(text)
        demand(position is not None and position.epochs == (self.truth.epoch,), "a missed event at", text)
        assert position is not None
        demand(self.connection.receives(entry.event), "missed and not for this client:", entry.event)
        named = filter(None, map(Position.parse, self.client.named.get(channel, ())))
        may_read = any(each.offsets[0] < entry.offset for each in named)
        demand(may_read, "missed and not to be read:", entry.position, entry.event)
        [offset] = position.offsets
        demand(offset >= self.last, "a missed event goes back to", text, "after", self.last)
        self.nothing_missing(offset)
        self.last = offset


def promise_of(world: World, connection: Connection, channel: str, since: str) -> Promise:
    """Return what a client is promised that has joined a channel from a position."""
    stay = world.hub.stays(connection, channel)[-1]
    position = Position.parse(since)
    here = position is not None and position.epochs == (world.truth.epoch,)
    demand(here, "recovered from no position of this log:", channel, since)
    assert position is not None
    names = frozenset({connection.user})
    entries = [
        each
        for each in world.truth.places.get((channel, ""), ())
        if position.offsets[0] < each.offset <= (stay.joined or 0)
        and connection.receives(each.event)
        and not world.truth.is_past(each, names)
    ]
    return Promise(connection, channel, stay, entries)


def could_recover(world: World, connection: Connection, since: dict[str, str], chunk: int) -> set[str]:
    """Return the channels that cannot be lost, of those that were joined from these positions."""
    kept, count = set[str](), 0
    for channel, text in since.items():
        position, stay = Position.parse(text), world.hub.stays(connection, channel)[-1]
        if position is None or position.epochs != (world.truth.epoch,):
            continue
        [offset] = position.offsets
        count += sum(each.offset > offset for each in world.truth.places.get((channel, ""), ()))
        if offset <= stay.asked and world.truth.proves((channel, ""), offset):
            kept.add(channel)
    return kept if count < chunk else set()


class TokenChecker(Checker):
    """The books over clients with tokens."""

    def delivered(self, watch: Watch, item: dict[str, Any]) -> None:
        client: Any = watch.client
        assert isinstance(watch, TokenWatch)
        for failure in watch.world.failures:
            raise failure  # Of the write, before what follows from it.
        if item["type"] in CONTROLS:
            client.took(item)
            return
        if item["type"] == "resumed":
            client.took_resumed(item["lost"])
        entry = watch.missed(item) if "position" in item else None
        if entry is None:
            super().delivered(watch, item)
            client.received.add(item.get("position"))
            return
        self.handled(client).add(entry.position)
        client.received.add(entry.position)
        self.events += 1
        watch.received_missed(entry, item["position"])

    def handled(self, client: Any) -> set[str]:
        """Return the positions of the events that a client has handled."""
        return self._handled.setdefault(client, set())

    def asked_again(self, client: Any, world: World, since: dict[str, str]) -> None:
        """A client that names an older position of a channel asks for events that it has handled."""
        for channel, text in since.items():
            position = Position.parse(text)
            if position is not None:
                again = world.truth.places.get((channel, ""), ())
                self.handled(client).difference_update(
                    each.position for each in again if each.offset > position.offsets[0]
                )


def _offset(position: str) -> int:
    return int(position.rpartition("-")[2])


def _key(item: dict[str, Any]) -> tuple[str, str, str]:
    return item["type"], item.get("uuid", ""), item["position"]
