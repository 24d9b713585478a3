"""What the server is and where it listens."""

# ruff: noqa: RUF009 - `Section.option` declares a field; it computes no default.

from dataclasses import dataclass
from typing import Literal

from channelstream.config.option import Section
from channelstream.config.sections.kinds import PATH
from channelstream.config.values import AutoSwitch, Choice, Number, Switch, Text, Whole
from channelstream.engines.factory import FORMS, PATTERN

HttpScheme = Literal["", "http", "https"]
LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

_section = Section("Server")
_socket = Text(max_bytes=107)  # sun_path of unix(7), less its final zero
_url = Text(pattern=r"https?://[^\s/]+\S*", description="an http:// or https:// address")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of the section Server."""

    host: str = _section.option("127.0.0.1", Text(max_bytes=255), "The address to listen on.", short="-o")
    port: int = _section.option(
        8000, Whole(0, 65535), "The TCP port to listen on; 0 takes any free one.", short="-p"
    )
    unix_socket: str = _section.option(
        "", _socket, "Path of a unix socket to listen on, instead of host and port."
    )
    metrics_port: int = _section.option(
        0,
        Whole(0, 65535),
        "A port of its own for /metrics without credentials, /healthz and /readyz; 0 means none (docs/metrics.md).",
    )
    metrics_host: str = _section.option(
        "127.0.0.1", Text(max_bytes=255), "The address to listen on at metrics_port."
    )
    workers: int = _section.option(
        1, Whole(1, 256), "Number of processes that share the port; more than one needs a redis engine."
    )
    ssl_certfile: str = _section.option("", PATH, "Path of a PEM certificate chain; enables TLS.")
    ssl_keyfile: str = _section.option("", PATH, "Path of the certificate's PEM key.")
    enforce_https: bool = _section.option(False, Switch(), "Answer requests over plain HTTP with 406.")
    http_scheme: HttpScheme = _section.option(
        "",
        Choice[HttpScheme]("", "http", "https"),
        "Scheme of redirects; empty means the scheme of the request.",
    )
    debug: bool = _section.option(
        False, Switch(), "Log at level debug, with one line for each request.", short="-d"
    )
    demo: bool | None = _section.option(
        None,
        AutoSwitch(),
        "Serve the chat demo at /demo; auto means to callers on this machine only, when bound to loopback, and without"
        " trusted_proxies.",
        short="-e",
        per_app=True,
    )
    demo_app_url: str = _section.option(
        "http://127.0.0.1",
        _url,
        "Has no effect; accepted because configuration files of the older generations set it.",
    )
    log_level: LogLevel = _section.option(
        "info",
        Choice[LogLevel]("debug", "info", "warning", "error", "critical"),
        "The least severe level to log.",
    )
    log_format: LogFormat = _section.option(
        "human",
        Choice[LogFormat]("human", "json"),
        "Log one readable line (human) or one JSON object (json) for each event.",
    )
    otel: bool = _section.option(
        False,
        Switch(),
        "Record API calls as spans of OpenTelemetry; needs channelstream[otel] (docs/opentelemetry.md).",
    )
    engine: str = _section.option(
        "memory",
        Text(pattern=PATTERN, description=FORMS),
        "Where channels, users and history are kept: memory in this process, sqlite in a file (four slashes for an"
        " absolute path), redis in a Redis server that several nodes share (docs/engines.md has its other forms, and"
        " clusters).",
    )
    compression: bool = _section.option(
        False, Switch(), "Compress WebSocket messages of 256 bytes and more for clients that offer it."
    )
    drain_timeout_s: float = _section.option(
        5.0,
        Number(0, 600),
        "Longest time to close all streams at shutdown; those left after it are dropped.",
        unit="seconds",
    )
    drain_spread_s: float = _section.option(
        0.0,
        Number(0, 3600),
        "Time over which streams are closed at shutdown, while calls are answered; 0 closes all at once.",
        unit="seconds",
    )
