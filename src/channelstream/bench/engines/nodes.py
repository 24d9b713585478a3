"""Compares one node with several: the gain and cost of a second node on this machine."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from channelstream.bench.engines.compared import in_turn
from channelstream.bench.engines.crowd import CHECKING, CLIENTS, PUBLISHING, Delivered, Sink, deliver, sink_of
from channelstream.bench.engines.operations import QUIET_FLAGS
from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import Store, one_redis
from channelstream.bench.engines.table import Figures, Table, medians
from channelstream.bench.load import Load
from channelstream.bench.measure import Target
from channelstream.bench.processes import family
from channelstream.bench.progress import Progress
from channelstream.bench.servers import product

PUBLISHERS = 16
PACE_PER_S = 8.0
"""So slow that a node has written a message to all clients before the next: messages do not share a write."""
LAYOUTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "1 node": ((),),
    "2 nodes": ((), ()),
    "1 service, 2 workers": (("--workers", "2"),),
}
"""Flags of the services of each layout."""
TITLES = {
    "nodes-calls": (
        "Publish calls from {publishers} connections, spread over the nodes; one client of each service receives them."
    ),
    "nodes-fanout": "Fan-out to {crowd:,} clients, spread over the nodes, by {publishers} publishers, flat out.",
    "nodes-paced": (
        "The same {crowd:,} clients, {pace:g} messages a second, so that every delivery is a write of its own; latency is"
        " that of the clients which are written to last."
    ),
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """One or several services with many clients."""

    store: Store
    services: Sequence[Target]
    sink: Sink
    run: str

    @property
    def processes(self) -> dict[str, Sequence[int]]:
        """Return the processes whose CPU counts. Children are counted with their parents."""
        nodes: dict[str, Sequence[int]] = {
            f"node {number}": [pid] for number, pid in enumerate(self._node_pids())
        }
        return nodes | {
            "Redis": self.store.pids,
            CLIENTS: [self.sink.process.pid],
        }

    def _node_pids(self) -> list[int]:
        """Return the process ids of the nodes: those of the workers, if a service has workers, as the parent is idle."""
        found = []
        for service in self.services:
            pids = list(family(service.pid or 0))
            found += pids[1:] or pids
        return found


async def nodes(sizes: Sizes, progress: Progress) -> list[Table]:
    """Measure each layout in each round, in turn. The other layouts are idle, with their clients connected."""
    async with AsyncExitStack() as stack:
        fleets = {}
        for name in LAYOUTS:
            progress.begin(f"nodes, {name}")
            progress.show("connecting clients")
            fleets[name] = await stack.enter_async_context(_fleet(LAYOUTS[name], sizes.crowd))
        rounds: dict[str, dict[str, list[Figures]]] = {id_: {name: [] for name in LAYOUTS} for id_ in TITLES}
        for number in range(sizes.rounds):
            for name in in_turn(list(LAYOUTS), number):
                progress.begin(f"nodes, round {number + 1}, {name}")
                for id_, figures in (await _figures(fleets[name], sizes, progress)).items():
                    rounds[id_][name].append(figures)
    values = {"publishers": PUBLISHERS, "crowd": sizes.crowd, "pace": PACE_PER_S}
    return [medians(id_, TITLES[id_].format(**values), each) for id_, each in rounds.items()]


@asynccontextmanager
async def _fleet(layout: Sequence[tuple[str, ...]], clients: int) -> AsyncIterator[Fleet]:
    run = f"crowd-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(one_redis())
        # Nodes of one service need the same secret. Here each has its own, because no call of one goes to another.
        services = [
            await stack.enter_async_context(product("--engine", store.address, *QUIET_FLAGS, *flags))
            for flags in layout
        ]
        sink = await stack.enter_async_context(sink_of(services, clients, run))
        yield Fleet(store, services, sink, run)


async def _figures(fleet: Fleet, sizes: Sizes, progress: Progress) -> dict[str, Figures]:
    """Return the figures by the id of the table."""
    share = PUBLISHERS // len(fleet.services)
    flat = Load(clients=CHECKING, messages=sizes.crowd_messages, publishers=share)
    paced = Load(clients=CHECKING, messages=0, duration_s=sizes.paced_s, rate_per_s=PACE_PER_S, publishers=1)
    progress.show("paced")
    slow = await deliver(fleet.services, fleet.sink, fleet.run, paced, fleet.processes)
    progress.show("flat out")
    fast = await deliver(fleet.services, fleet.sink, fleet.run, flat, fleet.processes)
    progress.show("calls")
    calls = Load(clients=1, messages=2 * sizes.calls, publishers=share)
    # The crowd is in another channel, so that it receives none of these.
    nobody = Sink(fleet.sink.process, 0)
    called = await deliver(fleet.services, nobody, f"{fleet.run}-calls", calls, fleet.processes)
    return {
        "nodes-calls": {
            "calls/s": calls.messages / called.accepted_s,
            **_costs(called, calls.messages, "call"),
        },
        "nodes-fanout": {
            "deliveries/s": fast.deliveries / fast.seconds,
            **_costs(fast, fast.deliveries, "delivery"),
        },
        "nodes-paced": {
            "latency p50, ms": slow.times.percentile_ns(50) / 1e6,
            "p99, ms": slow.times.percentile_ns(99) / 1e6,
            **_costs(slow, slow.deliveries, "delivery"),
        },
    }


def _costs(delivered: Delivered, count: int, what: str) -> dict[str, float]:
    """Return the CPU of the nodes for each message, and the load of each process in percent of a core."""
    cpu = delivered.cpu
    nodes = [used for name, used in cpu.items() if name.startswith("node ")]
    busy = {name: 100 * cpu[name] / delivered.seconds for name in ("Redis", CLIENTS, PUBLISHING)}
    return {
        f"CPU of the nodes per {what}, µs": sum(nodes) / count * 1e6,
        "busiest node, % of a core": 100 * max(nodes) / delivered.seconds,
        "all nodes": 100 * sum(nodes) / delivered.seconds,
        "Redis": busy["Redis"],
        "clients": busy[CLIENTS],
        "publishers": busy[PUBLISHING],
    }
