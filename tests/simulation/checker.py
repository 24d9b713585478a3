"""What must hold for every stream, whatever happens; `demand` raises where it does not."""

import json
from collections.abc import Iterable
from typing import Any, Protocol

from tests.simulation.failure import demand
from tests.simulation.truth import Place, Truth
from tests.simulation.world import World

from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UserStateChanged,
)
from channelstream.core.log import Entry
from channelstream.core.position import Position
from channelstream.engines.base import PRIVATE

TYPES: dict[type[Event], set[str]] = {
    Message: {"message"},
    MessageEdited: {"message:edit"},
    MessageDeleted: {"message:delete"},
    Presence: {"presence", "join", "part"},
    UserStateChanged: {"user_state_change"},
}


class Listener(Protocol):
    """The client, as far as the checker needs to know it."""

    user: str
    position: str


class Watch:
    """One stream as it is checked.

    Attributes:
        last: the highest number heard on it.
        starts: for each channel, the number after which everything is owed; empty until that is known.
        barred: for each lost channel, the number up to which nothing may come.
        over: the server has closed it; nothing more is owed.
    """

    def __init__(self, client: Listener, world: World, connection: Connection, since: str | None) -> None:
        self.client = client
        self.world = world
        self.connection = connection
        self.since = since
        self.honest = since is None or since == client.position
        self.last = -1
        self.over = False
        self.starts: dict[str, int] = {}
        self.barred: dict[str, int] = {}
        self.resumed: dict[str, Any] | None = None
        self.told = False
        self._cursor = 0
        self._began_seq = world.seq
        self._began_with = set(connection.channels)

    @property
    def truth(self) -> Truth:
        return self.world.truth

    def place(self, channel: str) -> Place:
        return (PRIVATE, self.client.user) if channel == PRIVATE else (channel, "")

    # -- how it begins

    def led(self, item: bytes) -> None:
        """Check a `resumed` item at the moment the server writes it."""
        demand(self.resumed is None, "resumed twice")
        demand(self.since is not None, "resumed without having asked")
        told = self.resumed = json.loads(item)
        recovered, lost = set(told["recovered"]), set(told["lost"])
        demand(not recovered & lost, "both recovered and lost:", recovered & lost)
        self._check_names(recovered | lost)
        start = self._start(told["position"])
        demand(start is not None or not recovered, "recovered from an unreadable position:", self.since)
        for name in lost:
            provable = start is not None and self.truth.proves(self.place(name), start)
            demand(not provable, "lost without a reason:", repr(name), "since", self.since)
            self.starts[name] = self.world.seq
            self.barred[name] = self._began_seq
        self.starts.update(dict.fromkeys(recovered, start or 0))

    def _check_names(self, named: set[str]) -> None:
        now = set(self.connection.channels)
        demand(PRIVATE in named, "private messages were not mentioned")
        missing = (now & self._began_with) - named
        demand(not missing, "neither recovered nor lost:", missing)

    def _start(self, told: str) -> int | None:
        """Return the number the client resumes from, None where its position can prove nothing."""
        asked = Position.parse(self.since or told)
        if self.since and asked:
            demand(told == self.since, "another position than the one asked for:", told)
        if asked is None or asked.epoch != self.truth.epoch or asked.seq > self.world.seq:
            return None
        return asked.seq

    def observe(self) -> None:
        """From when a stream of the older generation is live, it is owed everything, too."""
        if self.connection.stream is not None and self.connection.state is ConnectionState.LIVE:
            self.starts = dict.fromkeys((PRIVATE, *self.connection.channels), self.world.seq)

    # -- what it is owed

    def owed(self, entry: Entry) -> bool:
        """Whether the client must have heard this."""
        event = entry.event
        channel = PRIVATE if event.channel is None else event.channel
        joined = self.connection.channels.get(channel) if channel else 0
        start = self.starts.get(channel, joined)
        return (
            joined is not None
            and start is not None
            and entry.seq > start
            and bool(self.starts)
            and self.connection.hears(event)
        )

    def nothing_missing(self, upto: int) -> None:
        """Check that all that was owed up to this number has come."""
        entries = self.truth.entries
        while self._cursor < len(entries) and entries[self._cursor].seq <= upto:
            entry = entries[self._cursor]
            self._cursor += 1
            if entry.seq > self.last:
                demand(not self.owed(entry), "missing:", entry.position, entry.event)

    def heard(self, entry: Entry, left: dict[str, int]) -> None:
        """Check that an event may come now."""
        channel = PRIVATE if entry.event.channel is None else entry.event.channel
        demand(entry.seq > self.last, "out of order or twice:", entry.position, "after", self.last)
        demand(self.connection.hears(entry.event), "not for this client:", entry.event)
        demand(entry.seq > self.barred.get(channel, -1), "replayed though lost:", entry.position)
        closed = self.connection.state is ConnectionState.CLOSED  # What was written before may still come.
        member = closed or channel == PRIVATE or channel in self.connection.channels
        demand(member or channel in left, "no member of it:", entry.event)
        self.nothing_missing(entry.seq - 1)
        self.last = entry.seq


class Checker:
    """The books over all clients."""

    def __init__(self) -> None:
        self._handled: dict[Listener, set[str]] = {}
        self.left: dict[Listener, dict[str, int]] = {}
        self.events = 0

    def heard(self, watch: Watch, item: dict[str, Any]) -> None:
        """Check one item that a client has received whole."""
        kind = item["type"]
        if kind == "closing":
            watch.over = True
        elif kind == "resumed":
            demand(item == watch.resumed and not watch.told, "a resumed item that was not written:", item)
            watch.told = True
        else:
            self._event(watch, item)

    def _event(self, watch: Watch, item: dict[str, Any]) -> None:
        demand(watch.since is None or watch.told, "an event before the resumed item:", item)
        entry = watch.truth.by_position.get(item["position"])
        demand(entry is not None, "never accepted:", item)
        assert entry is not None
        event = entry.event
        same = item["type"] in TYPES[type(event)] and item["uuid"] == event.uuid
        demand(same and item.get("channel") == event.channel, "not what was accepted:", item)
        handled = self._handled.setdefault(watch.client, set())
        if not watch.honest:
            handled.clear()
            watch.honest = True
        demand(entry.position not in handled, "handled twice:", entry.position)
        handled.add(entry.position)
        self.events += 1
        watch.heard(entry, self.left.setdefault(watch.client, {}))

    def settled(self, watches: Iterable[Watch]) -> None:
        """Check that everybody with an open stream has all there is."""
        for watch in watches:
            if watch.over or watch.connection.state is ConnectionState.CLOSED:
                continue
            live = watch.connection.state is ConnectionState.LIVE
            demand(live, "still", watch.connection.state.value, "after all has settled:", watch.connection.id)
            watch.nothing_missing(watch.world.seq)
