"""The server as a process: its start, its signals, an upgrade, and its end."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from channelstream import __version__, early_signals, logs, service_manager
from channelstream.config import Settings, weak_secrets
from channelstream.config.listening import announcements, metrics_refusal, refusal
from channelstream.config.safety import check_secrets
from channelstream.config.tls import server_context
from channelstream.core.nonces import Nonces
from channelstream.draining import close_streams, spread_streams
from channelstream.errors import CannotHandOver, ConfigError
from channelstream.health import health_routes
from channelstream.housekeeping import Housekeeping
from channelstream.http.listener import Listener
from channelstream.http.shared import HttpServer
from channelstream.integrations.metrics.port import MetricsPort
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.key_watch import KeyWatch
from channelstream.monitoring import Monitoring, node_label
from channelstream.service import Node
from channelstream.transports.streams import Streams
from channelstream.upgrade.control import Control
from channelstream.upgrade.giver import Giver
from channelstream.upgrade.giving import TAKEN_S, Limits
from channelstream.upgrade.line import Part
from channelstream.upgrade.messages import DONE, TERMS, Report, Terms, kept_options
from channelstream.upgrade.server_parts import ServerParts
from channelstream.upgrade.taker import Taker
from channelstream.upgrade.taking import TakeOver
from channelstream.upgrade.upgrading import Upgrading

GC_THRESHOLDS = (50_000, 50, 1_000)
"""Garbage collection after 50,000 new objects: idle connections are many objects, and no garbage."""

REPORTS_S = 2.0
"""How long a server that stops waits until the outbox has what its clients did last, in seconds."""

Begin = Callable[[], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)


class Server:
    """The node with its listener and all parts, from start to shutdown."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        streams: Streams,
        http_server: HttpServer,
        monitoring: Monitoring,
        nonces: Mapping[str, Nonces],
        keys: KeyWatch,
        webhooks: Webhooks,
    ) -> None:
        """Create a server that has not started.

        Args:
            nonces: those of each application, by its id.
            keys: applies what changes about keys.
        """
        self.node = node
        self.streams = streams
        self.monitoring = monitoring
        self.has_started = False
        self.parent: socket.socket | None = None
        """The line of a worker to the parent of the workers."""
        self.on_started: Callable[[], None] = lambda: None
        self._settings = self._configured = settings
        self._http_server = http_server
        self._listener = Listener(http_server, server_context(settings))
        self._metrics_port = MetricsPort(monitoring.scraper, settings.metrics_allow, health_routes(node))
        self._keys = keys
        self._housekeeping = Housekeeping(node, [keys.end_expired])
        self.parts = ServerParts(
            self._listener,
            self._metrics_port.listener,
            http_server,
            streams,
            self._housekeeping,
            settings.upgrade_pause_s,
            nonces,
            monitoring.sampler.save,
            webhooks,
        )
        node.signals.log_replaced.connect(self._begin_nonces)
        self._control = Control(self.upgrade)
        self._upgrading = Upgrading(
            partial(Giver, self.parts),
            self._control.stop_listening,
            self._control.listen_again,
            self.stop,
            monitoring.meter.upgrades,
            upgrade_limits(settings, node.is_single),
        )
        self._stopping = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None
        self._is_hurried = False

    def stop(self) -> None:
        """Stop serving, after the drain."""
        self._stopping.set()

    @property
    def _is_alone(self) -> bool:
        """Whether no other process serves at its port, so that it is asked for itself."""
        return self.monitoring.scraper.siblings.worker.workers == 1

    @property
    def exit_code(self) -> int:
        """The exit code of the process: 1 if what it handed over is lost."""
        return int(self._upgrading.is_lost)

    async def upgrade(self) -> Report:
        """Hand everything over to a new process of the same program, and stop.

        Raises:
            PeerEnded, CannotHandOver: as `Upgrading.upgrade`.
        """
        if not self.has_started:
            # What is not attached yet would be in no snapshot.
            raise CannotHandOver("it has not continued all streams since the last upgrade; try again later")
        return await self._upgrading.upgrade(self._terms())

    def _terms(self) -> Part:
        counts, worker = self._upgrading.counts, self.monitoring.scraper.siblings.worker
        terms = Terms(
            **kept_options(self._settings),
            upgrades={**counts, DONE: counts[DONE] + 1},
            workers=worker.workers,
            worker=worker.number,
            directory=str(worker.directory or ""),
        )
        descriptors = () if self.parent is None else (self.parent.fileno(),)
        return Part(TERMS, terms.part(TERMS).body, descriptors)

    async def run(
        self,
        sockets: list[socket.socket] | None = None,
        metrics_sockets: list[socket.socket] | None = None,
        take_over: TakeOver | None = None,
    ) -> None:
        """Serve until a signal arrives, `stop` is called or another process takes over.

        Args:
            sockets, metrics_sockets: those of `serve`.
            take_over: leads to the process whose work this one takes over.

        Raises:
            ConfigError: an option cannot be used as it stands.
            CannotHandOver: the other process keeps its work.
        """
        self._catch_signals(is_first=take_over is None)
        gc.set_threshold(*GC_THRESHOLDS)
        if take_over is None:
            begin = await self._start(sockets, metrics_sockets)
        else:
            begin = await self._take_over(take_over)
        self.monitoring.sampler.start("start" if take_over is None else "upgrade", self._version)
        try:
            await self.monitoring.scraper.siblings.listen()
            await begin()
            self._started()
            if self.monitoring.scraper.siblings.worker.number == 0:
                await self.monitoring.sampler.mark_changes(self._configured)
            await self._stopping.wait()
        finally:
            if self.has_started:
                self._log_end()
            await self._shut_down()
            if self.has_started:
                logger.info("stopped")

    @property
    def _version(self) -> str:
        """What runs here, for the marks of the history."""
        return f"channelstream {__version__} on {node_label()}"

    def _log_end(self) -> None:
        """Log the end, and report it to the service manager: it is another process that serves from here on, or none."""
        if (report := self._upgrading.report) is not None:
            service_manager.notify(f"MAINPID={report.pid}")
            return
        service_manager.notify(service_manager.STOPPING)
        within_s = self._settings.drain_spread_s + self._settings.drain_timeout_s
        logger.info("%s", logs.stopping(self.streams.sockets, within_s))

    async def _start(
        self, sockets: list[socket.socket] | None, metrics_sockets: list[socket.socket] | None
    ) -> Begin:
        """Start all that needs no socket, and return what begins to serve."""
        await self.node.start()
        if restored := len(self.node.hub.connections):
            logger.info("%s", logs.restored(restored, self.node.limits.restored_s))
        self.streams.heartbeat.start()
        self._housekeeping.start()

        async def begin() -> None:
            self._begin_nonces(self.node.remembered_seconds)
            await self._listen_for_scrapers(metrics_sockets)
            await self._listen(sockets)
            service_manager.notify(service_manager.READY)

        return begin

    def _begin_nonces(self, remembered_s: float = 0.0) -> None:
        """Refuse what was signed before, or so many seconds ago: its nonce may be forgotten."""
        for nonces in self.parts.nonces.values():
            nonces.begin(self.node.clock.wall() - remembered_s)

    async def _take_over(self, take_over: TakeOver) -> Begin:
        """Take the state of another process, and return what begins to serve with it."""
        _spare_collector()
        self._upgrading.counts.update(take_over.upgrades)
        taker = Taker(self.parts)
        await take_over.take(taker)

        async def begin() -> None:
            if self._settings.reads_again:
                # Until here a signal had the other process read them.
                self._read_keys()
            await taker.begin()
            if self._is_alone:
                # A terminal signals the process that it has started, which has ended.
                self._announce(f"kill {os.getpid()}")
            if take_over.not_changed and take_over.worker.number == 0:
                logger.warning("%s", take_over.not_changed)
            await take_over.report_begun()
            await taker.attach()
            await take_over.report_attached()

        return begin

    def _started(self) -> None:
        self.has_started = True
        _spare_collector()
        # Not earlier: turns during the start delay no one.
        self.monitoring.watchdog.start()
        self.monitoring.load.start()
        self.parts.webhooks.start()
        self.on_started()

    def _catch_signals(self, *, is_first: bool) -> None:
        """Decide what signals do.

        Args:
            is_first: this process takes over from no other one.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._upgrade_at_signal)
        if self._settings.reads_again:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._read_keys_at_signal)
            # A worker ignores the signal until now.
            self._read_keys()
        elif not (is_first and self._is_alone):
            # The process before this one may have read files, or the parent of the workers: then it passes the signal on.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        early_signals.let_go()

    def _read_keys_at_signal(self) -> None:
        """Read the files with keys and secrets again, and say in the log which secrets are weak, as a start does."""
        self._upgrading.pass_on(signal.SIGHUP)
        if self._read_keys():
            for warning in weak_secrets.warnings(self._settings):
                logger.warning("%s", warning)

    def _read_keys(self) -> bool:
        """Read the files with keys and secrets; return whether they are used.

        If one is broken, or unsafe, nothing changes, and the log says so.
        """
        try:
            check_secrets(self._settings)
            self._keys.read_again()
            logs.configure(self._settings)
        except ConfigError as error:
            logger.error("%s; the keys stay as they were", error)  # noqa: TRY400 - no bug, so no traceback
            return False
        logger.info("the files with keys and secrets are read")
        return True

    def _signalled(self, number: signal.Signals) -> None:
        """Stop; at once on a Ctrl-C during the drain."""
        self._upgrading.pass_on(number)
        if number == signal.SIGINT and self._stopping.is_set():
            self._is_hurried = True
            if self._drain is not None:
                self._drain.cancel()
        self.stop()

    def _upgrade_at_signal(self) -> None:
        """Upgrade, if this process serves alone; the log has the result."""
        if self._is_alone and self.has_started and not self._stopping.is_set():
            self._http_server.run(asyncio.get_running_loop().create_task(self._upgraded_quietly()))

    async def _upgraded_quietly(self) -> None:
        try:
            await self.upgrade()
        except CannotHandOver as error:
            logger.debug("SIGUSR2: %s", error)

    async def _listen(self, sockets: list[socket.socket] | None) -> None:
        if sockets is not None:
            await self._listener.listen_on(sockets)
            return
        try:
            await self._listen_at_address()
        except OSError as error:
            raise refusal(self._settings, error) from error
        self._announce()

    async def _listen_at_address(self) -> None:
        """Listen at the address of the settings, which have the port afterwards that the system has chosen."""
        settings = self._settings
        if settings.unix_socket:
            await self._listener.listen_at_path(settings.unix_socket)
        else:
            port = await self._listener.listen_at(settings.host, settings.port)
            self._settings = replace(settings, port=port)

    def _announce(self, ending: str = "Ctrl-C") -> None:
        """Log where this process serves, which may be asked to upgrade from now on."""
        self._control.listen(self._settings)
        for line in announcements(self._settings, ending):
            logger.info("%s", line)

    async def _listen_for_scrapers(self, sockets: list[socket.socket] | None) -> None:
        settings = self._settings
        if not settings.metrics_port:
            return
        try:
            await self._metrics_port.listen(settings.metrics_host, settings.metrics_port, sockets)
        except OSError as error:
            raise metrics_refusal(settings, error) from error

    async def _shut_down(self) -> None:
        await self._upgrading.stop()
        self._control.stop_listening()
        # First: a probe that is still answered must not say that this node is ready.
        self.node.draining = True
        if self.has_started and self._settings.drain_spread_s and self._upgrading.report is None:
            await self._in_drain(spread_streams(self.node, self._settings.drain_spread_s))
        self._listener.close()
        # From here on no client can come back, so none is late: the next server may restore its connection.
        await self._housekeeping.stop()
        # First: pages that watch the samples are open answers, for which the drain would wait.
        await self.monitoring.sampler.stop("stop" if self._upgrading.report is None else "", self._version)
        await self.monitoring.load.stop()
        await self._in_drain(self._drained())
        if left := self.streams.sockets:
            logger.warning("dropping %s, not closed in time", logs.counted(left, "stream"))
        await self._http_server.abort()
        # Late: a probe sees the drain on this port.
        self.monitoring.scraper.siblings.close(is_replaced=self._upgrading.report is not None)
        await self._metrics_port.close()
        self.streams.heartbeat.stop()
        await self.node.reports.close(REPORTS_S)
        await self.parts.webhooks.stop(is_replaced=self._upgrading.report is not None)
        await self.node.close()
        await self.monitoring.spans.close()
        self.monitoring.watchdog.stop()
        await self._control.close()

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


def upgrade_limits(settings: Settings, is_single: bool) -> Limits:
    """Return the longest times of an upgrade.

    A third of a lease may have passed when the links to Redis are closed, and to go on after a failure takes time, too:
    so half of a lease is left for the new process.
    """
    frozen_s = TAKEN_S + 2 * settings.upgrade_pause_s
    return Limits(frozen_s=frozen_s, apart_s=frozen_s if is_single else settings.node_lease_s / 2)


def _spare_collector() -> None:
    """Collect garbage, and spare the collector what lives until the end."""
    gc.collect()
    gc.freeze()
