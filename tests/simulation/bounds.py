"""The bounds of the server's memory, checked after every step."""

from dataclasses import dataclass

from tests.counted import counted_bytes
from tests.simulation.failure import demand
from tests.simulation.truth import Place
from tests.simulation.world import Bounds, World

from channelstream.core.batch import BufferBatch
from channelstream.core.changes import KEPT
from channelstream.core.connection import ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.log import Log
from channelstream.housekeeping import COLLECT_EVERY, SWEEP_INTERVAL_S

COLLECTED_WITHIN_S = (COLLECT_EVERY + 1) * SWEEP_INTERVAL_S
"""How long idle items may stay beyond their lifetime."""


@dataclass(frozen=True, slots=True)
class Look:
    """A log when it was last checked.

    Attributes:
        disturbed: how often its channel was configured and the budget exceeded until then: each may drop entries early.
    """

    log: Log
    entries: list[Entry]
    disturbed: int


class MemoryChecker:
    """Checks logs and indexes, and remembers the entries of the logs."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._seen: dict[Place, Look] = {}

    def check(self, world: World, now_s: float) -> None:
        self._logs(world, now_s)
        self._idle(world, now_s)
        self._indexes(world)
        self._batches(world)

    def _logs(self, world: World, now_s: float) -> None:
        registry = world.registry
        logs = list[Log]()
        for channel in registry.channels.values():
            for log in (channel.log, channel.history):
                demand(len(log.entries) <= max(0, log.limits.events), "too long a log:", channel.name)
                logs.append(log)
            self._nothing_dropped_early(world, (channel.name, ""), channel.log, now_s)
        for user in registry.users.values():
            demand(len(user.log.entries) <= user.log.limits.events, "too long a log:", user.name)
            logs.append(user.log)
            self._nothing_dropped_early(world, ("", user.name), user.log, now_s)
        budget = registry.budget
        used = counted_bytes(logs, budget)
        demand(budget.used_bytes == used, "the budget counts", budget.used_bytes, "where logs hold", used)
        demand(used <= budget.limit_bytes, "more than the budget:", used)

    def _nothing_dropped_early(self, world: World, place: Place, log: Log, now_s: float) -> None:
        """Check that entries dropped since the last check were expired, too many or over the budget."""
        demand(not world.truth.duplicate(log), "one uuid accepted twice:", place)
        registry = world.registry
        now = Look(log, list(log.entries), registry.budget.exceeded + registry.configured.get(place[0], 0))
        before, self._seen[place] = self._seen.get(place), now
        if before is None or before.log is not log or before.disturbed != now.disturbed:
            return
        accepted = world.truth.held.get(place, [])
        kept = {entry.offset for entry in now.entries}
        for entry in before.entries:
            if entry.offset in kept or world.truth.left(place, entry):
                continue
            later = sum(each.offset > entry.offset for each in accepted)
            early = later < log.limits.events and now_s - entry.at_s < (log.limits.age_s or 0.0)
            demand(not early, "dropped too early:", place, entry.position)

    def _idle(self, world: World, now_s: float) -> None:
        """Check that idle users and channels are forgotten in time, however the wall clock was set."""
        registry = world.registry
        for each in (*registry.users.values(), *registry.channels.values()):
            lifetime_s = 0.0 if registry.goes_soon(each) else registry.lifetime_s
            latest_s = now_s - lifetime_s - COLLECTED_WITHIN_S
            kept = bool(each.connections) or registry.used_s[each] >= latest_s
            demand(kept, "idle for too long:", each.name, "since", registry.used_s[each])

    def _indexes(self, world: World) -> None:
        hub = world.hub
        for connection in hub.connections.values():
            demand(
                connection.state is not ConnectionState.CLOSED, "a closed connection is kept:", connection.id
            )
        here = set(hub.connections.values())
        for name, members in (hub.channels | hub.users).items():
            demand(bool(members) and set(members) <= here, "the index keeps the closed:", name)

    def _batches(self, world: World) -> None:
        hub = world.hub
        for connection in hub.connections.values():
            batch = connection.batch
            if isinstance(batch, BufferBatch):
                demand(
                    len(batch.buffered) <= self._bounds.held, "more held than may be:", len(batch.buffered)
                )
        if not hub.rounds.is_due:
            demand(len(hub.changes._kept) <= KEPT, "more changes remembered than may be")
            demand(not hub.rounds.slices, "slices outlive their flush")
            demand(not hub.rounds.root._next, "batches outlive their flush")
            demand(not any(hub.rounds.waiting), "a connection waits for a flush that nobody has asked for")

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
