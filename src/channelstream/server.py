"""The composition root: settings in, a running server out; signals and the drain at the end."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from importlib import import_module
from math import ceil
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request

from channelstream import __version__
from channelstream.api import openapi
from channelstream.api.access import Access, AccessRules, Checker
from channelstream.api.app import Api
from channelstream.api.endpoints import ENDPOINTS
from channelstream.asgi import App, Receive, Scope, Send, answer, refuse
from channelstream.clock import SystemClock, new_epoch, new_id
from channelstream.config import Settings
from channelstream.core.addresses import Networks
from channelstream.core.hub import Hub
from channelstream.core.policy import Header, Policy
from channelstream.core.registry import RegistryLimits
from channelstream.core.signing import SignatureChecker, SignedText
from channelstream.engines.factory import Parts, make_engine
from channelstream.engines.ledger import Lifetimes
from channelstream.errors import BadSignature, ChannelstreamError, CloseCode, ConfigError
from channelstream.housekeeping import Housekeeping
from channelstream.node import Node, NodeLimits
from channelstream.overview.panel import Panel
from channelstream.overview.sampler import Sampler
from channelstream.pacing import FlushPacer
from channelstream.pages.refusals import json_errors
from channelstream.pages.routes import routes
from channelstream.tracing import Tracer
from channelstream.transports.asgi import PATHS, StreamsApp
from channelstream.transports.http import protocol_for
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams

DESCRIPTORS_FOR_US = 64
"""Descriptors the process needs for itself: logs, the listening sockets, the loop."""
GC_THRESHOLDS = (50_000, 50, 1_000)
"""A collection of the youngest objects for every 50,000 new ones: idle connections are many and make no garbage."""

ADMIN_PREFIX = "/admin"
"""Pages below it are never readable for pages of other origins."""

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, which tells the streams before it stops."""

    def __init__(
        self, config: uvicorn.Config, node: Node, streams: Streams, sampler: Sampler, drain_s: float
    ) -> None:
        super().__init__(config)
        self.node = node
        self.streams = streams
        self._drain_s = drain_s
        self._housekeeping = Housekeeping(node)
        self._sampler = sampler
        self.on_started: Callable[[], None] = lambda: None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on a signal, at once on a second Ctrl-C; ending as asked is success, so it is not raised again."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.node.start()
        self.streams.heartbeat.start()
        self._housekeeping.start()
        self._sampler.start()
        await self._listen(sockets)
        gc.set_threshold(*GC_THRESHOLDS)
        gc.collect()
        gc.freeze()
        self.on_started()

    async def _listen(self, sockets: list[socket.socket] | None) -> None:
        """Listen; a port in use makes uvicorn log so and leave by SystemExit, a socket's path does not."""
        try:
            await super().startup(sockets)
        except OSError as error:
            await self.lifespan.shutdown()
            raise ConfigError(f"unix_socket: cannot listen on {self.config.uds!r}: {error}") from error

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        self.node.draining = True
        while self.node.hub.flush():
            pass  # What was accepted goes out before the streams are closed.
        for connection in list(self.node.hub.connections.values()):
            if connection.stream is not None:
                connection.stream.close(CloseCode.RESTARTING, "the server restarts")
        await self._drained()
        self.streams.heartbeat.stop()
        await self._housekeeping.stop()
        await self._sampler.stop()
        await super().shutdown(sockets)
        await self.node.engine.close()

    async def _drained(self) -> None:
        """Wait until all streams are closed, but not too long."""
        waiting = asyncio.ensure_future(self.streams.heartbeat.empty.wait())
        await asyncio.wait((waiting,), timeout=self._drain_s)
        waiting.cancel()


class Front:
    """What every request meets first: the rules of the connection, then the API, the streams or the pages."""

    def __init__(self, policy: Policy, api: Api, streams: StreamsApp, scheme: str) -> None:
        self._policy = policy
        self._api = api
        self._streams = streams
        self._scheme = scheme
        self.pages: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.pages(scope, receive, send)
            return
        try:
            self._policy.check_transport(scope)
        except ChannelstreamError as error:
            await refuse(scope, send, error, self._policy.cors(scope["headers"]))
            return
        path = self._policy.path(scope)
        seen = scope if path == scope["path"] else dict(scope) | {"path": path}
        await self._app_for(path)(seen, receive, send)

    def _app_for(self, path: str) -> App:
        if path in self._api.paths:
            return self._api
        return self._streams if path in PATHS else self._page

    def page_cors(self, scope: Scope) -> list[Header]:
        """Return what lets other origins read an answer below no path of ours; the admin's are for nobody else."""
        is_admin = self._policy.path(scope).startswith(ADMIN_PREFIX)
        return [] if is_admin else self._policy.cors(scope["headers"])

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Show the pages the address and scheme of the browser, not those of the proxy in front of us."""
        if scope["method"] == "OPTIONS":
            await answer(scope, send, 200, b"", self.page_cors(scope), b"text/plain")
            return
        address = self._policy.client(scope)
        port = scope["client"][1] if scope.get("client") else 0
        root = self._policy.root(scope)
        seen = dict(scope) | {
            "client": (address, port),
            "scheme": self._scheme or self._policy.scheme(scope),
            "root_path": root,
            "path": root + scope["path"],
            "headers": self._headers(scope),
        }
        try:
            await self.pages(seen, receive, send)
        except ClientDisconnect:
            logger.debug("a client left before it had sent its request")

    def _headers(self, scope: Scope) -> list[Header]:
        """Return the headers with the Host the browser asked for, if a proxy that has changed it says which."""
        host = self._policy.host(scope).encode()
        rest = [field for field in scope["headers"] if field[0] != b"host" or not host]
        return [(b"host", host), *rest] if host else rest


def serve(
    settings: Settings,
    sockets: list[socket.socket] | None = None,
    on_started: Callable[[Server], None] = lambda _: None,
) -> int:
    """Serve until a signal says stop; return the exit code of the process.

    Args:
        settings: what to serve with.
        sockets: bound sockets to listen on, instead of the address of the settings.
        on_started: called in the loop when the server listens.

    Raises:
        ConfigError: an option cannot be used as it stands.
    """
    server = build(settings)
    server.on_started = lambda: on_started(server)
    logger.info("starting on %s", address_of(settings))
    if settings.serves_demo:
        logger.info("demo at %s/demo, admin at %s/admin", address_of(settings), address_of(settings))
    try:
        server.run(sockets)
    except KeyboardInterrupt:
        # uvicorn raises the signal again after the drain, and the loop may swallow it or not.
        logger.debug("interrupted")
    except SystemExit:
        # uvicorn leaves so when it cannot listen, and has said why.
        return 1
    return 0 if server.started else 1


def build(settings: Settings) -> Server:
    """Put all parts together."""
    node = _node(settings)
    policy = Policy(settings.trusted_proxies, settings.enforce_https, settings.allow_cors)
    streams = Streams(node, _stream_settings(settings), policy)
    access = Access(
        AccessRules(settings.secret, settings.raw_secret_in_query, Networks(settings.allow_posting_from)),
        policy,
        _checker(settings),
        node.clock.wall,
    )
    api = Api(ENDPOINTS, node, access, policy, settings.max_body_bytes)
    front = Front(policy, api, StreamsApp(streams), settings.http_scheme)
    sampler = Sampler(node)
    pages = Starlette(routes=_pages(settings, front, Panel(node, streams, sampler), access, Tracer(node)))
    front.pages = json_errors(pages, front.page_cors)
    return Server(_uvicorn_config(settings, front, streams), node, streams, sampler, settings.drain_timeout_s)


def _pages(settings: Settings, front: Front, panel: Panel, access: Access, tracer: Tracer) -> Any:
    def is_signed(request: Request) -> bool:
        return access.is_signed(request.scope)

    return routes(settings, front, panel, lambda: openapi.document(ENDPOINTS, __version__), is_signed, tracer)


def _node(settings: Settings) -> Node:
    clock = SystemClock()
    pacer = FlushPacer(lambda: hub.flush(), clock.steady)
    hub = Hub(pacer.soon)
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
    )
    return Node(engine, hub, clock, new_id, node_limits)


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
        head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        compression=settings.compression,
    )


class _ForeignChecker:
    """The class named by `signature_checker`, with the `unsign` that 0.7.1 called."""

    def __init__(self, unsign: Callable[..., Any], max_age_s: float | None) -> None:
        self._unsign = unsign
        self._max_age_s = max_age_s

    def check(self, token: str, path: str, now_s: float) -> None:
        try:
            self._unsign(token, max_age=self._max_age_s)
        except Exception as error:
            # Foreign code: whatever it raises means no.
            raise BadSignature from error


def _checker(settings: Settings) -> Checker:
    max_age_s = settings.signature_max_age_s if settings.validate_requests else None
    if not settings.signature_checker:
        return SignatureChecker(
            settings.secret, SignedText(settings.signature_text), max_age_s, settings.signature_max_ahead_s
        )
    module, _, name = settings.signature_checker.rpartition(".")
    try:
        made = getattr(import_module(module), name)(settings.secret)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"signature_checker: cannot use {settings.signature_checker!r}: {error}") from error
    return _ForeignChecker(made.unsign, max_age_s)


def _uvicorn_config(settings: Settings, app: App, streams: Streams) -> uvicorn.Config:
    descriptors = _descriptors()
    if settings.max_connections > descriptors:
        logger.warning("max_connections is cut to %d: the process may open no more sockets", descriptors)
    protocol = protocol_for(streams, min(settings.max_connections or descriptors, descriptors))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        uds=settings.unix_socket or None,
        ssl_certfile=settings.ssl_certfile or None,
        ssl_keyfile=settings.ssl_keyfile or None,
        http=protocol,
        ws="none",
        loop="uvloop",
        proxy_headers=False,
        server_header=False,
        access_log=settings.debug,
        log_config=None,
        backlog=4096,
        timeout_keep_alive=ceil(settings.keep_alive_s),
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout_s)),
    )
    try:
        config.load()
    except OSError as error:
        # An SSLError is one: the files are there, but hold no certificate or another's key.
        raise ConfigError(f"ssl_certfile: {settings.ssl_certfile!r} cannot be used: {error}") from error
    return config


def _descriptors() -> int:
    """Raise the limit of open descriptors as far as allowed and return how many sockets that admits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, hard - DESCRIPTORS_FOR_US)


def address_of(settings: Settings) -> str:
    """The address of a server, for people."""
    if settings.unix_socket:
        return f"unix:{settings.unix_socket}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.ssl_certfile else 'http'}://{host}:{settings.port}"
