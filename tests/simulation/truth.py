"""The events that the engine accepted in one run of the server, in the checker's own record."""

from tests.simulation.failure import demand
from tests.simulation.kept_edits import KeptEdits

from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names, Presence
from channelstream.core.log import PRIVATE, Log
from channelstream.core.registry import Registry

Place = tuple[str, str]
"""A channel's name and nothing, or `PRIVATE` and a user."""


class Truth:
    """Every accepted entry, by number, by position and by the log it belongs to.

    Attributes:
        places: the entries that are for each channel or user.
        held: the entries in each log; a private change is also in those of the users whom it excludes.
        lost: the offset of the last edit for some users in each log whose text a newer edit has not taken over.
    """

    def __init__(self, epoch: str, registry: Registry) -> None:
        self.epoch = epoch
        self.entries: list[Entry] = []
        self.by_position: dict[str, Entry] = {}
        self.events: set[tuple[type[Event], str]] = set()
        self._about: dict[tuple[str | None, str], list[Entry]] = {}
        self.places: dict[Place, list[Entry]] = {}
        self.held: dict[Place, list[Entry]] = {}
        self.lost: dict[Place, int] = {}
        self._edits = KeptEdits()
        self.present: dict[str, set[str]] = {}
        self._registry = registry
        self._born: dict[Place, tuple[Log, int]] = {}

    def accept(self, entry: Entry) -> None:
        for single in entry.split():  # What a client receives of it, each with its own offset.
            self._accept(single)

    def _accept(self, entry: Entry) -> None:
        demand(
            not self.entries or self.entries[-1].offset < entry.offset,
            "accepted out of order:",
            entry.position,
        )
        self.entries.append(entry)
        self.by_position[entry.position] = entry
        self.events.add((type(entry.event), entry.event.uuid))
        self._note_loss(entry)
        self._about.setdefault((entry.event.channel, entry.event.uuid), []).append(entry)
        places = self._places(entry)
        for place in places:
            self.places.setdefault(place, []).append(entry)
        is_private_change = entry.event.channel is None and entry.event.supersedes is not None
        names = entry.event.only or () if is_private_change else ()
        for place in {*places, *((PRIVATE, name) for name in names)}:
            self.held.setdefault(place, []).append(entry)
        if isinstance(entry.event, Presence) and entry.event.announced:
            self._balance(entry.event)

    @staticmethod
    def _places(entry: Entry) -> list[Place]:
        event = entry.event
        if event.channel is not None:
            return [(event.channel, "")]
        return [
            (PRIVATE, name) for name in event.only or () if event.is_for(name, PresenceAudience.IF_ANNOUNCED)
        ]

    def _balance(self, event: Presence) -> None:
        present = self.present.setdefault(event.channel or "", set())
        if event.joined:
            demand(event.user not in present, event.user, "joined twice in a row:", event.channel)
            present.add(event.user)
        else:
            demand(event.user in present, event.user, "parted without having joined:", event.channel)
            present.remove(event.user)

    # -- edits and deletions

    def text(self, position: str, user: str) -> bytes | None:
        """Return the text that a user may be sent now for the entry at a position; None: no text."""
        text, sent = None, self.by_position[position]
        for entry in self._about[sent.event.channel, sent.event.uuid]:
            event = entry.event
            if isinstance(event, Message) and entry.offset > sent.offset:
                continue  # Published again after the logs had forgotten it: the change is not about the earlier message.
            if event.only is None or user in event.only:
                text = None if isinstance(event, MessageDeleted) else getattr(event, "payload", None) or text
        return text

    def _note_loss(self, entry: Entry) -> None:
        """Note the older edits whose text an edit without one cannot take over: they were for other users."""
        for offset, names in self._edits.lost(entry):
            channel = entry.event.channel
            places = [(PRIVATE, name) for name in names] if channel is None else [(channel, "")]
            for place in places:
                self.lost[place] = max(offset, self.lost.get(place, -1))

    def is_past(self, entry: Entry, names: Names) -> bool:
        """Whether an entry is superseded for all of these users, or only the edit that was meant for them is sent."""
        left = set(names)
        for later in self._about[entry.event.channel, entry.event.uuid]:
            if later.offset <= entry.offset or isinstance(later.event, Message):
                continue
            if isinstance(entry.event, MessageDeleted) and isinstance(later.event, MessageEdited):
                continue
            in_place = isinstance(entry.event, Message) and isinstance(later.event, MessageEdited)
            if not (in_place and self._is_for_all(later.event, entry.event)):
                left -= left if later.event.only is None else later.event.only
        return not left

    @staticmethod
    def _is_for_all(change: Event, event: Event) -> bool:
        return change.only is None or (
            event.only is not None and event.only - (event.exclude or set()) <= change.only
        )

    def _is_gone(self, entry: Entry) -> bool:
        """Whether an entry has left every log by now, because it is superseded."""
        event = entry.event
        everybody = (
            frozenset({"anybody else"}) if event.only is None else event.only - (event.exclude or frozenset())
        )
        return self.is_past(entry, everybody)

    # -- the logs as they are

    def log(self, place: Place) -> Log | None:
        holder = self._registry.users.get(place[1]) if place[1] else self._registry.channels.get(place[0])
        return holder.log if holder else None

    def note_births(self, offset: int) -> None:
        """Look for new logs, so that it is known from which offset on they have proof."""
        places = [(name, "") for name in self._registry.channels]
        for place in places + [(PRIVATE, name) for name in self._registry.users]:
            log = self.log(place)
            known = self._born.get(place)
            if log is not None and (known is None or known[0] is not log):
                self._born[place] = (log, offset)

    def proves(self, place: Place, offset: int) -> bool:
        """Whether the log still has every event since this offset, by the checker's record."""
        log = self.log(place)
        born = self._born.get(place)
        if log is None or born is None or born[0] is not log or born[1] > offset:
            return False
        if self.lost.get(place, -1) > offset:
            return False
        kept = {single.offset for entry in log.entries for single in entry.split()}
        owed = [entry for entry in self.held.get(place, ()) if entry.offset > offset]
        # An entry dropped before it was superseded looks like one that was not superseded.
        return all(
            entry.offset in kept or (entry.offset > log.floor and self.left(place, entry)) for entry in owed
        )

    def left(self, place: Place, entry: Entry) -> bool:
        """Whether an entry has left a log because it is superseded."""
        return self.is_past(entry, frozenset({place[1]})) if place[1] else self._is_gone(entry)

    def duplicate(self, log: Log) -> bool:
        """Whether a log holds two messages of one uuid for one user."""
        found = [
            (entry.event.uuid, user)
            for entry in log.entries
            if isinstance(entry.event, Message)
            for user in entry.event.only or ("",)
        ]
        return len(found) != len(set(found))
