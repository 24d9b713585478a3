"""What must hold of the server's memory after every step."""

from tests.simulation.failure import demand
from tests.simulation.truth import Place
from tests.simulation.world import Bounds, World

from channelstream.core.batch import Held
from channelstream.core.connection import ConnectionState
from channelstream.core.log import ENTRY_OVERHEAD, Entry, Log

ROOM = 4 * ENTRY_OVERHEAD
"""A byte budget that has less room than this may have been full since the last look."""


class Keeper:
    """Looks at logs and indexes, and remembers what the logs held."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._seen: dict[Place, tuple[Log, list[Entry], int, float]] = {}

    def check(self, world: World, now_s: float) -> None:
        self._logs(world, now_s)
        self._indexes(world)
        self._batches(world)

    def _logs(self, world: World, now_s: float) -> None:
        registry = world.registry
        used = 0
        for channel in registry.channels.values():
            for log in (channel.log, channel.history):
                demand(len(log.entries) <= max(0, log.limits.events), "too long a log:", channel.name)
                used += sum(entry.size for entry in log.entries)
            self._nothing_dropped_early(world, (channel.name, ""), channel.log, now_s)
        for user in registry.users.values():
            demand(len(user.log.entries) <= user.log.limits.events, "too long a log:", user.name)
            used += sum(entry.size for entry in user.log.entries)
            self._nothing_dropped_early(world, ("", user.name), user.log, now_s)
        budget = registry.budget
        demand(budget.used_bytes == used, "the budget counts", budget.used_bytes, "where logs hold", used)
        demand(used <= budget.limit_bytes, "more than the budget:", used)

    def _nothing_dropped_early(self, world: World, place: Place, log: Log, now_s: float) -> None:
        """Check that what a log has dropped since the last look was too old, too much or over the budget."""
        demand(not world.truth.repeated(log), "one uuid accepted twice:", place)
        events = log.limits.events
        age_s = log.limits.age_s or 0.0
        known = self._seen.get(place)
        self._seen[place] = (log, list(log.entries), events, age_s)
        budget = world.registry.budget
        if known is None or known[0] is not log or budget.limit_bytes - budget.used_bytes < ROOM + 10_000:
            return
        events, age_s = min(events, known[2]), min(age_s, known[3])
        kept = {entry.seq for entry in log.entries}
        accepted = world.truth.places.get(place, [])
        for entry in known[1]:
            if entry.seq not in kept:
                later = sum(each.seq > entry.seq for each in accepted)
                early = later < events and now_s - entry.at_s < age_s
                demand(not early, "dropped too early:", place, entry.position)

    def _indexes(self, world: World) -> None:
        hub = world.hub
        for connection in hub.connections.values():
            demand(
                connection.state is not ConnectionState.CLOSED, "a closed connection is kept:", connection.id
            )
        here = set(hub.connections.values())
        for name, members in (hub.channels | hub.users).items():
            demand(bool(members) and members.keys() <= here, "the index keeps the closed:", name)

    def _batches(self, world: World) -> None:
        hub = world.hub
        for connection in hub.connections.values():
            batch = connection.batch
            if isinstance(batch, Held):
                demand(len(batch.held) <= self._bounds.held, "more held than may be:", len(batch.held))
        if not hub._flush_is_due:
            demand(not hub._root._next, "batches outlive their flush")
            demand(not any(hub._outlets), "a connection waits for a flush that nobody has asked for")

    def check_settled(self, world: World) -> None:
        """Check counts that may differ while calls are under way."""
        for name, channel in world.registry.channels.items():
            here = [member.user for member in world.hub.channels.get(name, ())]
            counted = {user: here.count(user) for user in here}
            demand(channel.users == counted, "counted members", channel.users, "are not", counted, "in", name)
            if channel.settings.notify_presence:
                present = world.truth.present.get(name, set())
                demand(
                    present == set(here), "announced as present", present, "are not", set(here), "in", name
                )
        for name, user in world.registry.users.items():
            count = len(world.hub.users.get(name, ()))
            demand(user.connections == count, "connections counted wrongly:", name, user.connections, count)
