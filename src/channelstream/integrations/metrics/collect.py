"""What one process has at the moment of a scrape."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from channelstream import __version__
from channelstream.core.endings import NO_CODE, OTHER
from channelstream.integrations.metrics.catalog import Metrics
from channelstream.integrations.metrics.meter import Meter, transport_label
from channelstream.integrations.metrics.samples import Family, Labels, Sample
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.service import Node, Services
from channelstream.slices import STEP, Slices

Rows = Iterable[tuple[Labels, float]]


class Loop(Protocol):
    """Figures of the event loop; `watchdog.Watchdog` has them."""

    slow_turns: int


class Collector:
    """Collects the metrics of one process."""

    def __init__(self, services: Services, meter: Meter, loop: Loop, webhooks: Webhooks) -> None:
        self._services = services
        self._webhooks = webhooks
        self._meter = meter
        self._loop = loop

    async def collect(self) -> list[Family]:
        """Return all metrics, those of the process itself included."""
        by_stream, backlog = await self._connections()
        process = await asyncio.to_thread(_process_families)
        rows = {**self._counted(), **self._of_node(self._services.node), **self._of_webhooks()}
        rows[Metrics.connections] = _labelled(by_stream, "application", "transport")
        rows[Metrics.backlog_bytes] = [({}, backlog)]
        meter = self._meter
        return [
            *(_family(metric, _samples(metric, given)) for metric, given in rows.items()),
            _family(
                Metrics.delivery_latency_seconds,
                meter.latency.samples(Metrics.delivery_latency_seconds.full_name),
            ),
            _family(Metrics.loop_delay_seconds, meter.delay.samples(Metrics.loop_delay_seconds.full_name)),
            self._engine_family(),
            *process,
        ]

    async def _connections(self) -> tuple[Counter[tuple[str, str]], int]:
        """Return the number of connections by application and transport, and the bytes that wait; in short turns."""
        node, backlog = self._services.node, 0
        found = Counter((service.app.id, NO_CODE) for service in self._services.all())
        found.subtract(found.keys())
        slices = Slices(node.clock.steady)
        for number, connection in enumerate(list(node.hub.connections.values())):
            stream = connection.stream
            app_id = self._services.owner_id(connection.id) or OTHER
            found[app_id, transport_label(stream) if stream else NO_CODE] += 1
            backlog += stream.buffered_bytes() if stream else 0
            if number % STEP == 0:
                await slices.due()
        return found, backlog

    def _counted(self) -> dict[Metrics, Rows]:
        """Return what the meter has counted."""
        meter = self._meter
        return {
            Metrics.streams_opened: _labelled(meter.opened, "transport"),
            Metrics.streams_closed: _labelled(meter.closed, "transport", "code"),
            Metrics.connections_ended: _labelled(meter.ended, "code"),
            Metrics.replayed_events: [({}, meter.replayed)],
            Metrics.lost_channels: [({}, meter.lost)],
            Metrics.engine_errors: _labelled(meter.engine.failed, "operation"),
            Metrics.auth_refused: _labelled(meter.refused, "reason"),
            Metrics.address_limited: _labelled(meter.address_refused, "what"),
            Metrics.upgrades: _labelled(meter.upgrades, "result"),
            Metrics.http_requests: _labelled(_by_class(meter.requests), "route", "status"),
        }

    def _of_node(self, node: Node) -> dict[Metrics, Rows]:
        """Return what the node and the loop count anyway."""
        log_bytes = node.log_bytes
        return {
            Metrics.messages_published: [
                ({"application": service.app.id}, service.published) for service in self._services.all()
            ],
            Metrics.limited: [
                ({"application": service.app.id, "limit": limit}, count)
                for service in self._services.all()
                for limit, count in service.refused().items()
            ],
            Metrics.deliveries: [({}, node.hub.deliveries)],
            Metrics.written_events: [({}, node.hub.written.events)],
            Metrics.written_bytes: [({}, node.hub.written.size)],
            Metrics.slow_clients: [({}, node.stalls)],
            Metrics.slow_turns: [({}, self._loop.slow_turns)],
            Metrics.shed: _labelled(node.shedding.refused, "what"),
            Metrics.log_bytes: [] if log_bytes is None else [({}, log_bytes)],
            Metrics.ready: [({}, not node.unready_reason)],
            Metrics.build_info: [({"version": __version__, "engine": node.engine_name}, 1)],
        }

    def _of_webhooks(self) -> dict[Metrics, Rows]:
        """Return what happened to the webhooks of each application, and what of all was dropped."""
        webhooks, open_now, refusals = self._webhooks, self._webhooks.open, self._webhooks.refusals
        events: Counter[tuple[str, str]] = Counter()
        failed, pending, refused = Counter[str](), Counter[str](), Counter[str]()
        for app_id in (service.app.id for service in self._services.all()):
            failed[app_id] = pending[app_id] = refused[app_id] = 0
            events[app_id, "sent"] = events[app_id, "given_up"] = 0
        for name, receiver in webhooks.receivers.items():
            figures, app_id = webhooks.figures[name], receiver.app_id
            events[app_id, "sent"] += figures.sent
            events[app_id, "given_up"] += figures.given_up
            failed[app_id] += figures.failed
            pending[app_id] += open_now.get(name, 0)
            refused[app_id] += refusals[name].count if name in refusals else 0
        return {
            Metrics.webhook_events: _labelled(events, "application", "result"),
            Metrics.webhook_calls_failed: _labelled(failed, "application"),
            Metrics.webhook_events_pending: _labelled(pending, "application"),
            Metrics.webhook_events_refused: _labelled(refused, "application"),
            Metrics.webhook_events_dropped: [
                ({"where": "outbox"}, webhooks.dropped),
                ({"where": "node"}, self._services.node.reports.dropped),
            ],
        }

    def _engine_family(self) -> Family:
        metric, calls = Metrics.engine_call_seconds, self._meter.engine
        samples = [
            Sample(f"{metric.full_name}_{suffix}", {"operation": operation}, float(value))
            for suffix, values in (("count", calls.ended), ("sum", calls.seconds))
            for operation, value in values.items()
        ]
        return _family(metric, samples)


def _by_class(requests: Mapping[tuple[str, int], int]) -> Counter[tuple[str, str]]:
    """Return the number of answers by route and class of the status."""
    found: Counter[tuple[str, str]] = Counter()
    for (route, status), count in requests.items():
        found[route or OTHER, f"{status // 100}xx"] += count
    return found


def _labelled(counts: Mapping[str, int] | Mapping[tuple[str, str], int], *labels: str) -> Rows:
    """Return rows of counts by a label, or by several."""
    return [
        (dict(zip(labels, (key,) if isinstance(key, str) else key, strict=True)), count)
        for key, count in counts.items()
    ]


def _samples(metric: Metrics, rows: Rows) -> list[Sample]:
    return [Sample(metric.sample_name, dict(labels), float(value)) for labels, value in rows]


def _family(metric: Metrics, samples: list[Sample]) -> Family:
    return Family(metric.full_name, metric.value.kind, metric.value.text, samples)


def up_family(has_answered: bool) -> Family:
    """Return whether a worker has answered the scrape."""
    return _family(Metrics.worker_up, _samples(Metrics.worker_up, [({}, has_answered)]))


def _process_families() -> list[Family]:
    """Return memory, descriptors and processor time of this process; in a thread, since the first import takes 0.1 s."""
    from prometheus_client import ProcessCollector

    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in ProcessCollector(registry=None).collect()
    ]
