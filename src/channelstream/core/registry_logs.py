"""The logs of a registry's channels and users: in which of them an event is, and what it changes there."""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from channelstream.core.channel import Channel
from channelstream.core.compaction import (
    common,
    current,
    for_users,
    holders,
    is_for_others,
    loses,
    merged,
    retained,
)
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message
from channelstream.core.log import Log
from channelstream.core.user import User

_offset: Callable[[Entry], int] = attrgetter("offset")


class RegistryLogs:
    """The logs for resuming, and the histories of channels."""

    def __init__(self, channels: Mapping[str, Channel], users: Mapping[str, User]) -> None:
        """Create the view of a registry.

        Args:
            channels: of the registry, by name.
            users: likewise.
        """
        self._channels = channels
        self._users = users

    def of(self, event: Event) -> list[Log]:
        """Return the logs of an event: that of its channel, or those of its users."""
        if event.channel is not None:
            channel = self._channels.get(event.channel)
            return [channel.log] if channel else []
        # Sorted: the order of appends decides what a full budget drops first.
        return self._user_logs(sorted(holders(event)))

    def _user_logs(self, names: Iterable[str]) -> list[Log]:
        users = self._users
        return [users[name].log for name in names if name in users]

    def knows(self, channel: str, uuid: str) -> bool:
        """Return whether the log or the history of a channel has the message with this uuid, or a change of it."""
        found = self._channels.get(channel)
        if found is None:
            return False
        return found.log.knows(uuid) or found.history.knows(uuid)

    def entries_about(self, event: Event) -> list[Entry]:
        """Return the entries of the message that an event is, or changes; also for users whom the event excludes."""
        if event.channel is not None:
            channel = self._channels.get(event.channel)
            return list(channel.log.about(event.uuid)) if channel else []
        found = {
            entry.offset: entry
            for log in self._user_logs(event.only or ())
            for entry in log.about(event.uuid)
        }
        return sorted(found.values(), key=_offset)

    def events_about(self, event: Event) -> list[Event]:
        """Return what the logs have about the message that an event is, or changes; of a private one each user's log.

        There each event is for those of the users who have it: others were unknown then, or have lost it. Users who are
        unknown now count as those who have it, since nobody is there to be sent it.
        """
        if event.channel is not None:
            return [entry.event for entry in self.entries_about(event)]
        names, owners = event.only or frozenset(), dict[int, tuple[Event, set[str]]]()
        for name in names:
            user = self._users.get(name)
            for entry in user.log.about(event.uuid) if user is not None else ():
                owners.setdefault(entry.offset, (entry.event, set()))[1].add(name)
        unknown = frozenset([name for name in names if name not in self._users]) if owners else frozenset()
        return [for_users(found, unknown | own) for _, (found, own) in sorted(owners.items())]

    def history_message(self, event: Event) -> Entry | None:
        """Return the message with the event's uuid from the history of its channel."""
        channel = self._channels.get(event.channel) if event.channel is not None else None
        found = channel.history.about(event.uuid) if channel else ()
        return found[0] if found else None

    def compact(self, entry: Entry) -> Entry:
        """Replace the entries that an event supersedes by their current form; return what the logs keep of it."""
        change = kept = entry.event
        for old in self.entries_about(change):
            if is_for_others(change, old.event):
                continue
            kept = merged(kept, old.event)
            self._supersede(old, retained(old.event, change))
            if loses(change, old.event):
                for log in self.of(common(old.event, change)):
                    log.raise_floor(old.offset)
        return entry if kept is change else entry.with_event(kept)

    def _supersede(self, old: Entry, event: Event | None) -> None:
        if event is old.event:
            return
        new = None if event is None else old.with_event(event)
        still = set() if event is None else set(self.of(event))
        for log in self.of(old.event):
            log.supersede(old, new if log in still else None)

    def update_history(self, channel: Channel, entry: Entry) -> None:
        """Apply an event of a channel to its history."""
        event = entry.event
        if event.only is not None:
            return  # It is not for all, and all can read the history.
        if isinstance(event, Message):
            if not event.no_history and channel.settings.store_history:
                channel.history.append(entry)
        elif event.supersedes is not None:
            for old in channel.history.about(event.supersedes):
                new = current(old.event, event)
                channel.history.supersede(old, None if new is None else old.with_event(new))
