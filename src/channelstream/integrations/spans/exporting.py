"""Where spans go: the SDK, with an exporter for OTLP over HTTP, both configured by the variables of OpenTelemetry.

The SDK exports in a thread of its own, from a queue of `OTEL_BSP_MAX_QUEUE_SIZE` spans that drops the oldest. A collector
that does not answer costs nothing else, and one line of the log: `Drops` writes it, and the loggers of the SDK write
nothing after the start.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from channelstream import __version__
from channelstream.errors import ConfigError

FLUSH_S = 2.0
"""How long a server that stops waits for its last spans to be exported, in seconds."""
SWITCH_S = 0.001
"""How long the exporting thread may keep the interpreter lock, in seconds.

To encode 512 spans takes it 42 ms, in which each turn of the loop waits for the lock once. With the 5 ms of CPython a turn
was 8 to 13 ms late in the median, with this interval 3 to 5 ms (measured on a busy machine).
"""
RECOVERED_S = 60.0
"""How long nothing must be dropped until the log says so, in seconds: a collector may be too slow all the time."""
SDK_LOGGER = "opentelemetry"
QUEUE_LOGGER = "opentelemetry.sdk"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
DEFAULT_ENDPOINT = "http://localhost:4318"
OURS = "http/protobuf"
UNKNOWN = "unknown_service"

logger = logging.getLogger(__name__)


class Drops(logging.Handler):
    """Says once that spans are dropped, and once that they no longer are.

    It is also the handler of the SDK's loggers, for what only they know: that the queue is full.
    """

    def __init__(self, where: str, steady: Callable[[], float] = time.monotonic) -> None:
        """Create it; nothing is dropped yet.

        Args:
            where: the collector, without secrets.
            steady: a clock that never jumps, in seconds.
        """
        super().__init__(logging.WARNING)
        self.are_exported = True
        self._where = where
        self._steady = steady
        self._dropped_s: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of the SDK: its queue is full. The others say what the exporter returns."""
        if record.name.startswith(QUEUE_LOGGER):
            self._drop("it takes too few spans")

    def exported(self, has_succeeded: bool) -> None:
        """Note how an export has ended."""
        self.are_exported = has_succeeded
        if not has_succeeded:
            self._drop("it takes no spans")
        elif self._dropped_s is not None and self._steady() - self._dropped_s >= RECOVERED_S:
            self._dropped_s = None
            logger.info("spans are exported again to %s", self._where)

    def _drop(self, reason: str) -> None:
        if self._dropped_s is None:
            logger.warning("spans are dropped: the collector is %s, and %s", self._where, reason)
        self._dropped_s = self._steady()


class ReportingExporter:
    """An exporter whose outcomes are reported (`opentelemetry.sdk.trace.export.SpanExporter`)."""

    def __init__(self, exporter: Any, drops: Drops) -> None:
        self._exporter = exporter
        self._drops = drops

    def export(self, spans: Sequence[Any]) -> Any:
        try:
            result = self._exporter.export(spans)
        except Exception:
            self._drops.exported(False)
            raise
        self._drops.exported(result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


class Exporting:
    """The SDK of one process.

    Attributes:
        provider: makes tracers.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Start it, with a thread that exports.

        Raises:
            ConfigError: the variables name another exporter or protocol, or no address.
        """
        exports = _check(environ)
        collector = _collector(environ) if exports else ""
        self.provider: Any = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self.drops = Drops(collector)
        if exports:
            self.provider.add_span_processor(
                BatchSpanProcessor(ReportingExporter(OTLPSpanExporter(), self.drops))
            )
            sys.setswitchinterval(min(SWITCH_S, sys.getswitchinterval()))
        logger.info("spans of API calls are %s", _fate(environ, collector))
        # Not earlier: until here the SDK has warned of variables that it cannot read.
        sdk_logger = logging.getLogger(SDK_LOGGER)
        sdk_logger.handlers[:] = [self.drops]
        sdk_logger.propagate = False

    async def close(self) -> None:
        """Export the rest, in `FLUSH_S` at most; not at all if the collector took none last."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # The loop has ended meanwhile.
                loop.call_soon_threadsafe(done.set)

        # A daemon: the end of the process waits for the threads of `asyncio.to_thread`.
        threading.Thread(target=work, name="channelstream-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S if self.drops.are_exported else 0):
                await done.wait()


def _check(environ: Mapping[str, str]) -> bool:
    """Return whether spans are exported.

    Raises:
        ConfigError: by another exporter or protocol.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter not in ("otlp", "none"):
        raise ConfigError(f"OTEL_TRACES_EXPORTER: {exporter!r} is not otlp or none")
    for name in PROTOCOLS:
        if exporter == "otlp" and (protocol := environ.get(name) or OURS) != OURS:
            raise ConfigError(
                f"{name}: {protocol!r} is not {OURS}, the protocol that spans are exported with"
            )
    return exporter == "otlp"


def _resource() -> Any:
    """Return what describes this process: the values of the environment, and else our name and version."""
    found = {"service.version": __version__, **Resource.create().attributes}
    if str(found["service.name"]).startswith(UNKNOWN):
        found["service.name"] = "channelstream"
    return Resource(found)


def _collector(environ: Mapping[str, str]) -> str:
    """Return the address of the collector without path, query and login, which may be secrets.

    Raises:
        ConfigError: it is no address of a server.
    """
    name = next((name for name in ENDPOINTS if environ.get(name)), "")
    try:
        parts = urlsplit(environ.get(name, DEFAULT_ENDPOINT))
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"{name}: it must be an http:// or https:// address, such as {DEFAULT_ENDPOINT}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _fate(environ: Mapping[str, str], collector: str) -> str:
    """Return what becomes of spans; `collector` is the address that is shown, empty if none is used."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "not recorded: OTEL_SDK_DISABLED is true"
    return f"exported to {collector}" if collector else "not exported: OTEL_TRACES_EXPORTER is none"
