"""What the engine has accepted in one run of the server, known to the checker by its own books."""

from tests.simulation.failure import demand

from channelstream.core.events import Dialect, Message, Presence
from channelstream.core.log import Entry, Log
from channelstream.core.registry import Registry
from channelstream.engines.base import PRIVATE

Place = tuple[str, str]
"""A channel's name and nothing, or `PRIVATE` and a user."""


class Truth:
    """Every accepted entry, by number, by position and by the log it belongs to."""

    def __init__(self, epoch: str, registry: Registry) -> None:
        self.epoch = epoch
        self.entries: list[Entry] = []
        self.by_position: dict[str, Entry] = {}
        self.events: set[int] = set()
        self.places: dict[Place, list[Entry]] = {}
        self.present: dict[str, set[str]] = {}
        self._registry = registry
        self._born: dict[Place, tuple[Log, int]] = {}

    def accept(self, entry: Entry) -> None:
        demand(not self.entries or self.entries[-1].seq < entry.seq, "accepted out of order:", entry.position)
        self.entries.append(entry)
        self.by_position[entry.position] = entry
        self.events.add(id(entry.event))
        for place in self._places(entry):
            self.places.setdefault(place, []).append(entry)
        if isinstance(entry.event, Presence) and entry.event.announced:
            self._balance(entry.event)

    @staticmethod
    def _places(entry: Entry) -> list[Place]:
        event = entry.event
        if event.channel is not None:
            return [(event.channel, "")]
        return [(PRIVATE, name) for name in event.only or () if event.is_for(name, Dialect.V07)]

    def _balance(self, event: Presence) -> None:
        present = self.present.setdefault(event.channel or "", set())
        if event.joined:
            demand(event.user not in present, event.user, "joined twice in a row:", event.channel)
            present.add(event.user)
        else:
            demand(event.user in present, event.user, "parted without having joined:", event.channel)
            present.remove(event.user)

    # -- the logs as they are

    def log(self, place: Place) -> Log | None:
        holder = self._registry.users.get(place[1]) if place[1] else self._registry.channels.get(place[0])
        return holder.log if holder else None

    def note_births(self, seq: int) -> None:
        """Look for logs that are new, so that it is known from which number on they could prove something."""
        places = [(name, "") for name in self._registry.channels]
        for place in places + [(PRIVATE, name) for name in self._registry.users]:
            log = self.log(place)
            known = self._born.get(place)
            if log is not None and (known is None or known[0] is not log):
                self._born[place] = (log, seq)

    def proves(self, place: Place, seq: int) -> bool:
        """Whether the log still holds every event since this number, as the checker counts."""
        log = self.log(place)
        born = self._born.get(place)
        if log is None or born is None or born[0] is not log or born[1] > seq:
            return False
        kept = {entry.seq for entry in log.entries}
        return all(entry.seq in kept for entry in self.places.get(place, ()) if entry.seq > seq)

    def repeated(self, log: Log) -> bool:
        """Whether a log holds two messages of one uuid."""
        uuids = [entry.event.uuid for entry in log.entries if isinstance(entry.event, Message)]
        return len(uuids) != len(set(uuids))
