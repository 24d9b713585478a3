"""The busiest channels and callers of the last minute: each node answers with its own, and they are added up."""

from collections.abc import Hashable, Iterable, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Any, TypeVar

from msgspec import Struct

from channelstream.admin.all_nodes import AllNodes
from channelstream.apps.app import App
from channelstream.apps.keys import name_of
from channelstream.core.frequent import RecentRates, merged
from channelstream.http.callers import Caller, Callers
from channelstream.service import Node, Service

PROCEDURE = "busiest of application {}"
OF_NODE = 100
"""Most names that a node answers for each rate. What it leaves out is missing in the sum."""
SHOWN = 10
"""Most rows of each table."""

K = TypeVar("K", bound=Hashable)


class Rates:
    """What a process counts: a window ends with each sample, and the last ones make a minute."""

    def __init__(self, node: Node, callers: Callers) -> None:
        self.published = RecentRates(node.busiest)
        self.deliveries = RecentRates(node.hub.busiest)
        self.calls = RecentRates(callers.calls)
        self.refused = RecentRates(callers.refused)

    def turn(self, seconds: float) -> None:
        """End a window that has lasted for so long."""
        for each in (self.published, self.deliveries, self.calls, self.refused):
            each.turn(seconds)


class NodeRates(Struct, frozen=True):
    """The rates of a node, per second: of channels by name, of callers by address and key."""

    published: list[tuple[str, float]]
    deliveries: list[tuple[str, float]]
    calls: list[tuple[tuple[str, str], float]]
    refused: list[tuple[tuple[str, str], float]]


def busiest(service: Service, rates: Rates) -> AllNodes[NodeRates, dict[str, Any]]:
    """Return the reading of the rows of both tables."""
    app = service.app

    async def own() -> NodeRates:
        return NodeRates(
            _of_channels(rates.published, app),
            _of_channels(rates.deliveries, app),
            _of_callers(rates.calls, app),
            _of_callers(rates.refused, app),
        )

    return AllNodes(service.node, PROCEDURE.format(app.id), NodeRates, own, _tables)


def _of_channels(rates: RecentRates[str], app: App) -> list[tuple[str, float]]:
    return _top((name_of(key), rate) for key, rate in rates.rates().items() if app.owns(key))


def _of_callers(rates: RecentRates[Caller], app: App) -> list[tuple[tuple[str, str], float]]:
    found = rates.rates().items()
    return _top(((address, key_id), rate) for (app_id, address, key_id), rate in found if app_id == app.id)


def _tables(answers: Iterable[tuple[str, NodeRates]]) -> dict[str, Any]:
    """Return the rows of both tables."""
    nodes = [answer for _, answer in answers]
    published = merged(dict(node.published) for node in nodes)
    deliveries = merged(dict(node.deliveries) for node in nodes)
    calls = merged(dict(node.calls) for node in nodes)
    refused = merged(dict(node.refused) for node in nodes)
    return {
        "channels": [
            {"name": name, "published": published.get(name, 0.0), "deliveries": deliveries.get(name, 0.0)}
            for name in _busiest(published, deliveries)
        ],
        "callers": [
            {
                "address": name[0],
                "key": name[1],
                "calls": calls.get(name, 0.0),
                "refused": refused.get(name, 0.0),
            }
            for name in _busiest(calls, refused)
        ],
    }


def _top(rates: Iterable[tuple[K, float]]) -> list[tuple[K, float]]:
    return nlargest(OF_NODE, rates, key=itemgetter(1))


def _busiest(first: Mapping[K, float], second: Mapping[K, float]) -> list[K]:
    """Return the names with the highest sums of two rates, those first."""
    total = merged((first, second))
    return nlargest(SHOWN, total, key=lambda name: total[name])
