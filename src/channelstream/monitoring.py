"""What measures a process, and shows what it has found: built together, since nearly each of its parts needs another one."""

import os
import socket
from dataclasses import dataclass

from channelstream.admin.sampler import Sampler
from channelstream.config import Settings
from channelstream.integrations.metrics.collect import Collector
from channelstream.integrations.metrics.meter import Meter
from channelstream.integrations.metrics.scraper import Scraper
from channelstream.integrations.metrics.siblings import Worker
from channelstream.integrations.spans.base import Spans
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.load_monitor import LoadMonitor, make_load_monitor
from channelstream.service import Services
from channelstream.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that measure a process.

    Attributes:
        meter: counts what happens, for the metrics.
        spans: records the calls of the API.
        watchdog: finds turns of the event loop that last too long.
        load: measures memory and the delay of the loop, by which load is shed.
        sampler: takes the figures of the past.
        scraper: answers those who read the metrics.
    """

    meter: Meter
    spans: Spans
    watchdog: Watchdog
    load: LoadMonitor
    sampler: Sampler
    scraper: Scraper


def monitor(
    settings: Settings, services: Services, webhooks: Webhooks, meter: Meter, spans: Spans, worker: Worker
) -> Monitoring:
    """Return what measures a node and its services, none of which has started.

    Args:
        meter: counts already what the engine of the node does.
        spans: likewise.
        worker: the place of the process among the workers of a service.
    """
    node = services.node
    watchdog = Watchdog(settings.slow_turn_ms / 1000)
    load = make_load_monitor(settings, node)
    watchdog.on_tick += [meter.delay.observe, load.on_tick]
    sampler = Sampler(node, watchdog, meter, label=node_label())
    scraper = Scraper(Collector(services, meter, watchdog, webhooks), worker)
    meter.consume(node.signals)
    spans.consume(node.signals)
    node.signals.node_died.connect(sampler.node_died)
    return Monitoring(meter, spans, watchdog, load, sampler, scraper)


def node_label() -> str:
    """Return the name of this node for people."""
    return f"{socket.gethostname()}, process {os.getpid()}"
