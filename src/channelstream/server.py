"""The composition root: builds the server from its settings, runs it, and drains it at the end."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

import uvloop
from starlette.requests import Request

from channelstream import __version__, logs, service_manager
from channelstream.admin.panel import Panel
from channelstream.admin.sampler import Sampler
from channelstream.api import openapi
from channelstream.api.app import Api
from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.table import Auth
from channelstream.apps.principal import Right
from channelstream.auth.base import RequestAuth
from channelstream.auth.open import OpenAuth
from channelstream.clock import SystemClock, new_epoch, new_id
from channelstream.config import Settings
from channelstream.config.applications import make_apps, make_signature_auth
from channelstream.config.listening import announcements, metrics_refusal, refusal
from channelstream.config.tls import server_context
from channelstream.core.format import Format
from channelstream.core.hub import Hub
from channelstream.core.policy import Policy
from channelstream.core.registry import RegistryLimits
from channelstream.descriptors import sockets_allowed
from channelstream.draining import close_streams, spread_streams
from channelstream.engines.factory import Parts, make_engine
from channelstream.engines.local_log import Lifetimes
from channelstream.errors import BadSignature, CannotListen, Forbidden
from channelstream.health import health_routes
from channelstream.housekeeping import Housekeeping
from channelstream.http.asgi import RouterApp, ScopeRequest
from channelstream.http.listener import Listener
from channelstream.http.router import Router
from channelstream.http.shared import HttpServer, HttpSettings
from channelstream.integrations.metrics.collect import Collector
from channelstream.integrations.metrics.meter import CountedAuth, Meter
from channelstream.integrations.metrics.port import MetricsPort
from channelstream.integrations.metrics.scraper import Scraper
from channelstream.integrations.metrics.siblings import Worker
from channelstream.integrations.spans.base import Spans, make_spans
from channelstream.load_monitor import LoadMonitor, make_load_monitor
from channelstream.pacing import FlushPacer
from channelstream.pages.app import page_route
from channelstream.service import Node, NodeLimits, Services
from channelstream.site import routes
from channelstream.tracing import Tracer
from channelstream.transports.entrances import ENTRANCES, MakeEntrance
from channelstream.transports.routes import stream_routes
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.watchdog import Watchdog
from channelstream.wire.protocols import PROTOCOLS, Protocols

UNMEASURED_ENGINES = {"memory"}
"""It answers from memory and never fails: to measure its calls would only cost the time of each."""
RECONNECT_WAIT_S = 30.0
"""The longest wait of a client whose server was out of reach (docs/resume.md#reconnect-policy), in seconds."""
GC_THRESHOLDS = (50_000, 50, 1_000)
"""Garbage collection after 50,000 new objects: idle connections are many objects, and no garbage."""

logger = logging.getLogger(__name__)


class Server:
    """The node with its listener and all parts, from start to shutdown."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        streams: Streams,
        http_server: HttpServer,
        sampler: Sampler,
        watchdog: Watchdog,
        scraper: Scraper,
        load: LoadMonitor,
        spans: Spans,
    ) -> None:
        self.node = node
        self.streams = streams
        self.scraper = scraper
        self.has_started = False
        self.on_started: Callable[[], None] = lambda: None
        self._settings = settings
        self._http_server = http_server
        self._listener = Listener(http_server, server_context(settings))
        self._metrics_port = MetricsPort(scraper, settings.metrics_allow, health_routes(node))
        self._housekeeping = Housekeeping(node)
        self._sampler = sampler
        self._load = load
        self._spans = spans
        self._watchdog = watchdog
        self._stopping = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None
        self._is_hurried = False

    def stop(self) -> None:
        """Stop serving, after the drain."""
        self._stopping.set()

    async def run(
        self, sockets: list[socket.socket] | None = None, metrics_sockets: list[socket.socket] | None = None
    ) -> None:
        """Serve until a signal arrives or `stop` is called; the arguments are those of `serve`.

        Raises:
            ConfigError: an option cannot be used as it stands.
            CannotListen: the address cannot be used.
        """
        self._catch_signals()
        gc.set_threshold(*GC_THRESHOLDS)
        await self.node.start()
        if restored := len(self.node.hub.connections):
            logger.info("%s", logs.restored(restored, self.node.limits.restored_s))
        self.streams.heartbeat.start()
        self._housekeeping.start()
        self._sampler.start()
        try:
            await self._listen_for_scrapers(metrics_sockets)
            await self._listen(sockets)
            self.has_started = True
            gc.collect()
            gc.freeze()
            # Not earlier: turns during the start delay no one.
            self._watchdog.start()
            self._load.start()
            service_manager.notify(service_manager.READY)
            self.on_started()
            await self._stopping.wait()
        finally:
            if self.has_started:
                service_manager.notify(service_manager.STOPPING)
                within_s = self._settings.drain_spread_s + self._settings.drain_timeout_s
                logger.info("%s", logs.stopping(self.streams.sockets, within_s))
            await self._shut_down()
            if self.has_started:
                logger.info("stopped")

    def _catch_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        """Stop; at once on a Ctrl-C during the drain."""
        if number == signal.SIGINT and self._stopping.is_set():
            self._is_hurried = True
            if self._drain is not None:
                self._drain.cancel()
        self.stop()

    async def _listen(self, sockets: list[socket.socket] | None) -> None:
        if sockets is not None:
            await self._listener.listen_on(sockets)
            return
        try:
            settings = await self._listen_at_address()
        except OSError as error:
            raise refusal(self._settings, error) from error
        for line in announcements(settings):
            logger.info("%s", line)

    async def _listen_at_address(self) -> Settings:
        """Listen at the address of the settings; return them with the port that the system has chosen."""
        settings = self._settings
        if settings.unix_socket:
            await self._listener.listen_at_path(settings.unix_socket)
            return settings
        return replace(settings, port=await self._listener.listen_at(settings.host, settings.port))

    async def _listen_for_scrapers(self, sockets: list[socket.socket] | None) -> None:
        await self.scraper.siblings.listen()
        settings = self._settings
        if not settings.metrics_port:
            return
        try:
            await self._metrics_port.listen(settings.metrics_host, settings.metrics_port, sockets)
        except OSError as error:
            raise metrics_refusal(settings, error) from error

    async def _shut_down(self) -> None:
        # First: a probe that is still answered must not say that this node is ready.
        self.node.draining = True
        if self.has_started and self._settings.drain_spread_s:
            await self._in_drain(spread_streams(self.node, self._settings.drain_spread_s))
        self._listener.close()
        # From here on no client can come back, so none is late: the next server may restore its connection.
        await self._housekeeping.stop()
        # First: pages that watch the samples are open answers, for which the drain would wait.
        await self._sampler.stop()
        await self._load.stop()
        await self._in_drain(self._drained())
        if left := self.streams.sockets:
            logger.warning("dropping %s, not closed in time", logs.counted(left, "stream"))
        await self._http_server.abort()
        # Late: a probe sees the drain on this port.
        self.scraper.siblings.close()
        await self._metrics_port.close()
        self.streams.heartbeat.stop()
        await self.node.close()
        await self._spans.close()
        self._watchdog.stop()

    async def _in_drain(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a part of the drain; nothing once a Ctrl-C has ended it."""
        if self._is_hurried:
            work.close()
            return
        self._drain = asyncio.get_running_loop().create_task(work)
        await asyncio.wait((self._drain,))

    async def _drained(self) -> None:
        """Close all streams, and wait for `drain_timeout_s` at most until they and all sockets are closed."""
        await close_streams(self.node)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await self.streams.all_opened()
                await close_streams(self.node)
                await asyncio.gather(self.streams.heartbeat.empty.wait(), self._http_server.close())


def serve(
    settings: Settings,
    sockets: list[socket.socket] | None = None,
    on_started: Callable[[Server], None] = lambda _: None,
    worker: Worker = Worker(),  # noqa: B008 - it is immutable
    metrics_sockets: list[socket.socket] | None = None,
) -> int:
    """Serve until a signal arrives; return the exit code of the process.

    Args:
        settings: what to serve with.
        sockets: bound sockets to listen on, instead of the address of the settings.
        on_started: called in the loop when the server listens.
        worker: its place among the workers of a service.
        metrics_sockets: bound sockets instead of the address of `metrics_port`.

    Raises:
        ConfigError: an option cannot be used as it stands.
    """
    server = build(settings, worker=worker)
    server.on_started = lambda: on_started(server)
    logger.info("starting channelstream %s, engine %s", __version__, server.node.engine_name)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.run(sockets, metrics_sockets))
    except CannotListen as error:
        logger.error("%s", error)  # noqa: TRY400
        return 1
    return 0


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
    node, apps = _node(settings, protocols.formats, meter, spans), make_apps(settings)
    policy = Policy(settings.trusted_proxies, settings.enforce_https, settings.allow_cors)
    services = Services(apps, node)
    streams = Streams(services, _stream_settings(settings), policy, protocols)
    auth = make_signature_auth(settings, apps.default, node.clock.wall)
    auths: dict[Auth, RequestAuth] = {
        Auth.SIGNED: CountedAuth(auth, meter.refused),
        Auth.NONE: OpenAuth(apps.default),
    }
    api = Api(services, auths, settings.max_body_bytes).routes(map(spans.recorded, ENDPOINTS))
    watchdog = Watchdog(settings.slow_turn_ms / 1000)
    load = make_load_monitor(settings, node)
    watchdog.on_tick += [meter.delay.observe, load.on_tick]
    sampler = Sampler(node, watchdog)
    meter.consume(node.signals)
    spans.consume(node.signals)
    scraper = Scraper(Collector(services, meter, watchdog), worker)
    pages = routes(
        settings,
        RouterApp(Router(policy, api)),
        Panel(services.default, streams, sampler),
        _openapi_document,
        partial(_is_admin, auth),
        Tracer(services.default),
        scraper,
    )
    rows = [*health_routes(node), *api, *stream_routes(streams, services.default, entrances)]
    router = Router(policy, rows, page_route(pages, policy, settings.http_scheme))
    http_server = HttpServer(_http_settings(settings), router, lambda: streams.sockets, meter.answered)
    return Server(settings, node, streams, http_server, sampler, watchdog, scraper, load, spans)


def _is_admin(auth: RequestAuth, request: Request) -> bool:
    """Return whether a request for a page is signed by one who may see the admin pages."""
    try:
        principal = auth.principal(ScopeRequest(request.scope))
    except (Forbidden, BadSignature):
        return False
    return Right.ADMIN in principal.rights


@cache
def _openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document, which never changes; it is built when it is first asked for."""
    return openapi.document(ENDPOINTS, __version__)


def _node(settings: Settings, formats: Sequence[Format], meter: Meter, spans: Spans) -> Node:
    clock = SystemClock()
    pacer = FlushPacer(lambda: hub.flush(), lambda: hub.waiting_events, clock.steady, meter.written)
    hub = Hub(formats, pacer.request_flush)
    limits = RegistryLimits(
        log_bytes=settings.log_bytes,
        log_events=settings.log_events,
        log_age_s=settings.log_age_s,
        user_log_events=settings.user_log_events,
        transit_s=max(settings.poll_gap_s, settings.detach_grace_s),
        history_size=settings.history_size_max,
    )
    lifetimes = Lifetimes(settings.gc_users_after_s, settings.gc_channels_after_s)
    engine = make_engine(
        Parts(
            settings.engine,
            limits,
            lifetimes,
            clock,
            new_id,
            new_epoch,
            settings.engine_timeout_s,
            settings.node_lease_s,
            f"{socket.gethostname()}, process {os.getpid()}",
        )
    )
    node_limits = NodeLimits(
        channels_per_connection=settings.max_channels_per_connection,
        unattached_s=settings.unattached_timeout_s,
        restored_s=RECONNECT_WAIT_S + max(settings.poll_gap_s, settings.detach_grace_s),
    )
    if engine.name not in UNMEASURED_ENGINES:
        engine = meter.engine.measured(engine)
    return Node(spans.watched(engine), hub, clock, new_id, node_limits)


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
    most = sockets_allowed(settings)
    if settings.max_connections > most:
        logger.warning("max_connections is reduced to %d: the process may not open more sockets", most)
    return HttpSettings(
        max_sockets=min(settings.max_connections or most, most),
        head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        access_log=settings.debug,
    )
