"""The composition root: builds the server from its settings, and runs it."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace

import uvloop

from channelstream import __version__
from channelstream.admin.key_uses import KeyUses
from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.pusher.rows import PUSHER_ENDPOINTS
from channelstream.app_tables import AppTables, make_policy
from channelstream.apps import app
from channelstream.apps.app import Apps
from channelstream.apps.wanted_facts import WantedFacts
from channelstream.client_rules import make_client_rules
from channelstream.clock import RandomIds, SystemClock, new_epoch
from channelstream.config import Settings
from channelstream.config.applications import Credentials, make_apps, make_credentials, settings_by_app
from channelstream.config.cookies import cookie_secret_or_drawn
from channelstream.config.webhooks import make_receivers, wanted_facts
from channelstream.core.hub import Hub
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.usage import Usage
from channelstream.descriptors import sockets_allowed
from channelstream.engines.factory import Parts, make_engine
from channelstream.engines.outbox import OutboxSettings
from channelstream.errors import CannotHandOver
from channelstream.health import health_routes
from channelstream.http.address_rates import AddressLimits, AddressRates
from channelstream.http.router import Router
from channelstream.http.shared import HttpServer, HttpSettings
from channelstream.integrations.metrics.meter import Meter
from channelstream.integrations.metrics.siblings import Worker
from channelstream.integrations.spans.base import Spans, make_spans
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.key_watch import KeyWatch
from channelstream.lifecycle import Server
from channelstream.monitoring import monitor, node_label
from channelstream.older_secrets import OlderSecrets
from channelstream.pacing import FlushPacer
from channelstream.service import Node, NodeLimits, Services
from channelstream.transports.entrances import MakeEntrance
from channelstream.transports.routes import ENTRANCES
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.untrusted_proxy import UntrustedProxy
from channelstream.upgrade.line import Line
from channelstream.upgrade.snapshot import SNAPSHOT_VERSION
from channelstream.upgrade.taking import TakeOver
from channelstream.wire.protocols import PROTOCOLS, Protocols

RECONNECT_WAIT_S = 30.0
"""The longest wait of a client whose server was out of reach (docs/resume.md#reconnect-policy), in seconds."""

FAILED = 1
Attend = Callable[[socket.socket, Server], None]

logger = logging.getLogger(__name__)


def serve(
    settings: Settings,
    sockets: list[socket.socket] | None = None,
    on_started: Callable[[Server], None] = lambda _: None,
    worker: Worker = Worker(),  # noqa: B008 - it is immutable
    metrics_sockets: list[socket.socket] | None = None,
) -> int:
    """Serve until a signal arrives or another process takes over; return the exit code of the process.

    Args:
        settings: what to serve with.
        sockets: bound sockets to listen on, instead of the address of the settings.
        on_started: called in the loop when the server listens.
        worker: its place among the workers of a service.
        metrics_sockets: bound sockets instead of the address of `metrics_port`.

    Raises:
        ConfigError: an option cannot be used as it stands.
    """
    server = build(_with_cookie_secret(settings), worker=worker)
    server.on_started = lambda: on_started(server)
    logger.info("starting channelstream %s, engine %s", _build_name(), server.node.engine_name)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.run(sockets, metrics_sockets))
    return server.exit_code


def take_over(settings: Settings, line: Line, attend: Attend = lambda _line, _server: None) -> int:
    """Serve in place of the process at the other end of a line; return the exit code of the process.

    Args:
        settings: what to serve with.
        line: leads to that process.
        attend: called in a worker before it takes over, with its line to the parent of the workers.

    Raises:
        ConfigError: an option cannot be used as it stands.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_take_over(settings, TakeOver(line), attend))


async def _take_over(settings: Settings, steps: TakeOver, attend: Attend) -> int:
    try:
        kept = await steps.introduce(SNAPSHOT_VERSION, settings)
        server = build(_with_cookie_secret(kept), worker=steps.worker)
        if steps.parent is not None:
            attend(steps.parent, server)
        logger.info("starting channelstream %s in place of a running server", _build_name())
        await server.run(take_over=steps)
    except CannotHandOver as error:
        if not await steps.refuse(str(error)):
            logger.error("this process takes nothing over: %s", error)  # noqa: TRY400 - no bug, so no traceback
        return FAILED
    return server.exit_code


def _build_name() -> str:
    """Return the version, and whether its hot paths are compiled (docs/deployment.md)."""
    return __version__ if app.__file__.endswith(".py") else f"{__version__} (compiled)"


def _with_cookie_secret(settings: Settings) -> Settings:
    """Return settings whose key for cookies is known: the process that takes over needs it as well."""
    return replace(settings, cookie_secret=cookie_secret_or_drawn(settings.cookie_secret))


def build(
    settings: Settings,
    protocols: Protocols = PROTOCOLS,
    entrances: Iterable[MakeEntrance] = ENTRANCES,
    worker: Worker = Worker(),  # noqa: B008 - it is immutable
    spans: Spans | None = None,
) -> Server:
    """Build the server with all its parts.

    Args:
        protocols: what it speaks.
        entrances: the paths that open a WebSocket.
        worker: its place among the workers of a service.
        spans: what records its calls; None means as the option `otel` says.

    Raises:
        ConfigError: an option cannot be used as it stands.
    """
    meter = Meter(lambda: node.hub.writes)
    spans = spans or make_spans(settings.otel)
    apps = make_apps(settings)
    receivers = make_receivers(settings, apps)
    node = _node(settings, apps, protocols, meter, spans, wanted_facts(receivers, apps))
    services = Services(apps, node)
    credentials = make_credentials(settings, apps)
    addresses = AddressRates(_address_limits(settings), node.clock.steady, meter.address_refused)
    proxy = UntrustedProxy(settings)
    streams = _streams(settings, apps, services, credentials, protocols, addresses, proxy)
    webhooks = Webhooks(receivers, node)
    monitoring = monitor(settings, services, webhooks, meter, spans, worker)
    tables = AppTables(
        streams,
        credentials,
        endpoints=list(map(spans.recorded, ENDPOINTS)),
        named=list(map(spans.recorded, PUSHER_ENDPOINTS)),
        entrances=list(entrances),
        refused=meter.refused,
        sampler=monitoring.sampler,
        scraper=monitoring.scraper,
        uses=KeyUses(monitoring.sampler.history, node.time_series, node.clock.wall),
        older=OlderSecrets(node.clock.steady),
        addresses=addresses,
        webhooks=webhooks,
        untrusted_proxy=proxy,
    )
    router = _router(settings, services, tables)
    return Server(
        settings,
        node,
        streams,
        http_server=HttpServer(_http_settings(settings), router, lambda: streams.sockets, meter.requests),
        monitoring=monitoring,
        nonces={app_id: access.nonces for app_id, access in credentials.access.items()},
        keys=KeyWatch(credentials, streams),
        webhooks=webhooks,
    )


def _streams(
    settings: Settings,
    apps: Apps,
    services: Services,
    credentials: Credentials,
    protocols: Protocols,
    addresses: AddressRates,
    proxy: UntrustedProxy,
) -> Streams:
    node, settings_of = services.node, settings_by_app(settings)
    policies = {app_id: make_policy(own, app_id, proxy) for app_id, own in settings_of.items()}
    return Streams(
        services,
        _stream_settings(settings),
        policies[apps.default.id],
        protocols,
        policies,
        make_client_rules(settings_of, apps, credentials.keys, settings.max_client_errors, node),
        addresses.streams,
        addresses.credentials,
    )


def _router(settings: Settings, services: Services, tables: AppTables) -> Router:
    """Return the router of all applications."""
    default, settings_of = services.default.app, settings_by_app(settings)
    further = {
        each.app.id: tables.router(each.app, settings_of[each.app.id])
        for each in services.all()
        if each is not services.default
    }
    return tables.router(default, settings, health_routes(services.node), further)


def _node(
    settings: Settings,
    apps: Apps,
    protocols: Protocols,
    meter: Meter,
    spans: Spans,
    wanted: WantedFacts,
) -> Node:
    clock, new_id = SystemClock(), RandomIds().new
    pacer = FlushPacer(lambda: hub.flush(), lambda: hub.waiting_events, clock.steady, meter.written)
    hub = Hub(protocols.formats, pacer.request_flush, pacer.end_pause, Usage(apps.id_of))
    engine = make_engine(
        Parts(
            settings.engine,
            _registry_limits(settings),
            Lifetimes(settings.gc_users_after_s, settings.gc_channels_after_s),
            clock,
            new_id,
            new_epoch,
            settings.engine_timeout_s,
            settings.node_lease_s,
            node_label(),
            OutboxSettings(wanted),
        )
    )
    if engine.can_fail:  # Else each call would take longer for nothing.
        engine = meter.engine.measured(engine)
    limits = _node_limits(settings, apps, protocols)
    return Node(spans.watched(engine), hub, clock, new_id, limits, wanted)


def _longest_gap_s(settings: Settings) -> float:
    """Return how long a connection may live between two of its streams, or polls, in seconds."""
    return max(settings.poll_gap_s, settings.detach_grace_s)


def _registry_limits(settings: Settings) -> RegistryLimits:
    return RegistryLimits(
        log_bytes=settings.log_bytes,
        log_events=settings.log_events,
        log_age_s=settings.log_age_s,
        user_log_events=settings.user_log_events,
        transit_s=_longest_gap_s(settings),
        history_size=settings.history_size_max,
    )


def _node_limits(settings: Settings, apps: Apps, protocols: Protocols) -> NodeLimits:
    return NodeLimits(
        apps=apps.limits,
        channels_per_connection=settings.max_channels_per_connection,
        unattached_s=settings.unattached_timeout_s,
        restored_s=RECONNECT_WAIT_S + _longest_gap_s(settings),
        not_resuming=protocols.not_resuming,
    )


def _address_limits(settings: Settings) -> AddressLimits:
    # A trusted proxy's own address is that of all callers whom it does not name.
    unlimited = (*settings.unlimited_addresses, *settings.trusted_proxies)
    return AddressLimits(settings.max_address_stream_rate, settings.max_address_failure_rate, unlimited)


def _stream_settings(settings: Settings) -> StreamSettings:
    return StreamSettings(
        heartbeat_interval_s=settings.heartbeat_interval_s,
        ping_interval_s=settings.ping_interval_s,
        poll_timeout_s=settings.poll_timeout_s,
        detach_grace_s=settings.detach_grace_s,
        poll_gap_s=settings.poll_gap_s,
        outbox_bytes=settings.outbox_bytes,
        inbound_bytes=settings.max_inbound_bytes,
        inbound_frames=settings.max_inbound_frames,
        compression=settings.compression,
    )


def _http_settings(settings: Settings) -> HttpSettings:
    return HttpSettings(
        max_sockets=sockets_allowed(settings),
        head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        access_log=settings.debug,
    )
