"""The promises for every stream; `demand` raises where one is broken."""

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from tests.simulation.books import Stay
from tests.simulation.failure import Failure, demand
from tests.simulation.truth import Place, Truth
from tests.simulation.world import World

from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UserStateChanged,
)
from channelstream.core.log import PRIVATE
from channelstream.core.position import Position

TYPES: dict[type[Event], set[str]] = {
    Message: {"message"},
    MessageEdited: {"message:edit"},
    MessageDeleted: {"message:delete"},
    Presence: {"presence", "join", "part"},
    UserStateChanged: {"user_state_change"},
}


class Listener(Protocol):
    """The data of a client that the checker needs."""

    user: str
    position: str
    busy: bool


class Watch:
    """One stream as it is checked.

    Attributes:
        last: the highest offset received on it, or the one it resumes from.
        starts: for each channel, the number after which everything is owed; empty until that is known.
        barred: for each lost channel, the number up to which nothing may come.
        over: the server has closed it; nothing more is owed.
    """

    def __init__(self, client: Listener, world: World, connection: Connection, since: str | None) -> None:
        self.client = client
        self.world = world
        self.connection = connection
        self.since = since
        self.last = -1
        self.over = False
        self.starts: dict[str, int] = {}
        self.barred: dict[str, int] = {}
        self.resumed: dict[str, Any] | None = None
        self.resumed_sent = False
        self._written: set[str] = set()
        self._cursor = 0
        self._began_offset = world.offset
        # Channels that it joins or leaves at this moment may be reported or not.
        began_with = () if client.busy else connection.channels
        self._began_with = {name: len(self._stays_in(name)) for name in began_with}
        self._stays: dict[str, int] = {}

    @property
    def truth(self) -> Truth:
        return self.world.truth

    def place(self, channel: str) -> Place:
        return (PRIVATE, self.client.user) if channel == PRIVATE else (channel, "")

    # -- how it begins

    def led(self, item: dict[str, Any]) -> None:
        """Check a `resumed` item at the moment the server writes it."""
        demand(self.resumed is None, "resumed twice")
        demand(self.since is not None, "resumed without having asked")
        resumed = self.resumed = item
        recovered, lost = set(resumed["recovered"]), set(resumed["lost"])
        demand(not recovered & lost, "both recovered and lost:", recovered & lost)
        self._check_names(recovered | lost)
        start = self._start()
        demand(start is not None or not recovered, "recovered from an unreadable position:", self.since)
        for name in recovered:
            unproven = self._is_same_stay(name) and self._stays_in(name)[-1].is_unproven(start or 0)
            demand(not unproven, "recovered though nobody knows from where:", repr(name), self.since)
        for name in lost:
            known = start is not None and start <= self._began_offset and self._is_same_stay(name)
            demand(
                not (known and self._proves(name, start or 0)),
                "lost without a reason:",
                repr(name),
                "since",
                self.since,
            )
            self.barred[name] = self._began_offset
        self._owe(dict.fromkeys(lost, self.world.offset) | dict.fromkeys(recovered, start or 0))
        self._check_position(resumed["position"], start)
        self.last = -1 if start is None or start > self._began_offset else start

    def _check_names(self, named: set[str]) -> None:
        demand(PRIVATE in named, "private messages were not mentioned")
        missing = {name for name in self.connection.channels if self._is_same_stay(name)} - named
        demand(not missing, "neither recovered nor lost:", missing)

    def _start(self) -> int | None:
        """Return the offset the client resumes from, None where its position proves nothing."""
        if not self.since:
            assert self.resumed is not None
            return Position.parse(self.resumed["position"]).offsets[0]  # type: ignore[union-attr]
        asked = Position.parse(self.since)
        if asked is None or asked.epochs != (self.truth.epoch,) or asked.offsets[0] > self.world.offset:
            return None
        return asked.offsets[0]

    def _proves(self, name: str, start: int) -> bool:
        """Whether the log has all events that the client misses and its connection may read."""
        stay = self._stays_in(name)[-1]
        begin = stay.owed_after
        provable = begin is not None and not stay.is_unproven(start)
        return provable and self.truth.proves(self.place(name), max(start, begin or 0))

    def _is_same_stay(self, channel: str) -> bool:
        """Whether the connection has been in the channel since this stream began."""
        return channel == PRIVATE or self._began_with.get(channel) == len(self._stays_in(channel))

    def _check_position(self, text: str, start: int | None) -> None:
        """A client that resumes from the position sent has missed nothing of the recovered channels."""
        position = Position.parse(text)
        assert position is not None
        readable = position.epochs == (self.truth.epoch,) and position.offsets[0] <= self.world.offset
        demand(readable, "a malformed position is sent:", text)
        for entry in self.truth.entries:
            passed = start is not None and start < entry.offset <= position.offsets[0]
            demand(not (passed and self.owed(entry)), "the sent position passes over:", entry.position)

    def _owe(self, starts: dict[str, int]) -> None:
        self.starts = starts
        self._stays = {name: len(self._stays_in(name)) for name in starts}

    def _stays_in(self, channel: str) -> list[Stay]:
        return self.world.hub.stays(self.connection, channel)

    def observe(self) -> None:
        """A stream of the older generation is owed everything from the moment it is live, too.

        In a channel that its connection is joining at that moment it is owed what comes after the engine has registered it.
        """
        if self.connection.stream is not None and self.connection.state is ConnectionState.LIVE:
            names = {PRIVATE, *self.connection.channels} - self.connection.joining
            self._owe(dict.fromkeys(names, self.world.offset))

    # -- what is written to it

    def sent(self, items: Sequence[dict[str, Any]]) -> None:
        """Check at the moment of writing that no text is sent which was edited or deleted before.

        A failure is kept for the end of the step: the flush catches what a write raises.
        """
        self._written.update(item["position"] for item in items if "position" in item)
        try:
            self._check_texts(items)
        except Failure as failure:
            self.world.failures.append(failure)

    def _check_texts(self, items: Sequence[dict[str, Any]]) -> None:
        for item in items:
            if item["type"] in ("message", "message:edit") and "message" in item:
                text = self.truth.text(item["position"], self.client.user)
                demand(text is not None, "sent after its deletion:", item)
                demand(json.loads(text or b"") == item["message"], "sent after its edit:", item, "now", text)

    # -- what it is owed

    def owed(self, entry: Entry) -> bool:
        """Whether the client must have received this."""
        event = entry.event
        channel = PRIVATE if event.channel is None else event.channel
        is_member = channel == PRIVATE or channel in self.connection.channels
        if not (is_member and self.starts and self.connection.receives(event)):
            return False
        if self.truth.is_past(entry, frozenset({self.client.user})):
            return False
        stays = self._stays_in(channel)
        is_same = len(stays) == self._stays.get(channel)
        begin = stays[-1].owed_after if is_same else stays[-1].joined
        # A stream without a position begins at the present one, also in a channel that was just being joined.
        first = self.starts[PRIVATE] if self.since == "" else -1
        return begin is not None and entry.offset > max(self.starts.get(channel, begin), begin, first)

    def _may_receive(self, entry: Entry, channel: str) -> bool:
        """Whether the connection was a member then, or the application lets it read earlier events."""
        return any(
            entry.offset > stay.bound and (stay.left is None or entry.offset <= stay.left)
            for stay in self._stays_in(channel)
        )

    def nothing_missing(self, read_to: int) -> None:
        """Check that all events owed up to this offset have come."""
        entries = self.truth.entries
        while self._cursor < len(entries) and entries[self._cursor].offset <= read_to:
            entry = entries[self._cursor]
            self._cursor += 1
            if entry.offset > self.last:
                demand(not self.owed(entry), "missing:", entry.position, entry.event)

    def delivered(self, entry: Entry) -> None:
        """Check that an event may come now."""
        demand(entry.position in self._written, "not seen when it was written:", entry.position)
        channel = PRIVATE if entry.event.channel is None else entry.event.channel
        demand(entry.offset > self.last, "out of order or twice:", entry.position, "after", self.last)
        demand(self.connection.receives(entry.event), "not for this client:", entry.event)
        demand(entry.offset > self.barred.get(channel, -1), "replayed though lost:", entry.position)
        demand(self._may_receive(entry, channel), "no member of it:", entry.position, entry.event)
        self.nothing_missing(entry.offset - 1)
        self.last = entry.offset


class Checker:
    """The books over all clients."""

    def __init__(self) -> None:
        self._handled: dict[Listener, set[str]] = {}
        self.events = 0
        self.written = blake2b(digest_size=16)

    def wrote(self, number: int, data: bytes) -> None:
        """Remember that the server has written this to the client of this number now."""
        self.written.update(b"%d %d " % (number, len(data)) + data)

    def delivered(self, watch: Watch, item: dict[str, Any]) -> None:
        """Check one item that a client has received whole."""
        kind = item["type"]
        if kind == "closing":
            watch.over = True
        elif kind == "resumed":
            demand(
                item == watch.resumed and not watch.resumed_sent, "a resumed item that was not written:", item
            )
            watch.resumed_sent = True
        else:
            self._event(watch, item)

    def _event(self, watch: Watch, item: dict[str, Any]) -> None:
        demand(watch.since is None or watch.resumed_sent, "an event before the resumed item:", item)
        entry = watch.truth.by_position.get(item["position"])
        demand(entry is not None, "never accepted:", item)
        assert entry is not None
        event = entry.event
        same = item["type"] in TYPES[type(event)] and item["uuid"] == event.uuid
        demand(same and item.get("channel") == event.channel, "not what was accepted:", item)
        handled = self._handled.setdefault(watch.client, set())
        demand(entry.position not in handled, "handled twice:", entry.position)
        handled.add(entry.position)
        self.events += 1
        watch.delivered(entry)

    def began(self, client: Listener, since: str | None) -> None:
        """A client that names an older position than its own asks for events it has received."""
        if since is not None and since != client.position:
            self._handled.pop(client, None)

    def settled(self, watches: Iterable[Watch]) -> None:
        """Check that everybody with an open stream has all there is."""
        for watch in watches:
            if watch.over or watch.connection.state is ConnectionState.CLOSED:
                continue
            live = watch.connection.state is ConnectionState.LIVE
            demand(live, "still", watch.connection.state.value, "after all has settled:", watch.connection.id)
            watch.nothing_missing(watch.world.offset)
