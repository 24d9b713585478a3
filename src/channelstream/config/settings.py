"""The table of options: name, type, default, allowed values, effect."""

# ruff: noqa: RUF009 - `Section.option` declares a field; it computes no default.

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from channelstream.config.app_section import AppSection
from channelstream.config.networks import Networks, is_loopback
from channelstream.config.option import Option, Section, options_of
from channelstream.config.token_issuers import Issuers
from channelstream.config.values import AutoSwitch, Choice, Number, Origins, Switch, Text, Whole
from channelstream.engines.factory import FORMS, PATTERN

HttpScheme = Literal["", "http", "https"]
LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
RawSecret = Literal["loopback", "always", "never"]
RequestSigning = Literal["any", "signed", "old"]
SignatureText = Literal["compat", "path", "any"]

_server = Section("Server")
_access = Section("Access")
_timings = Section("Timings")
_limits = Section("Limits")

_DAY_S = 86_400
_GIB = 1 << 30
_delay = Number(0.01, _DAY_S)
_age = Number(0.01, 365 * _DAY_S)
_path = Text(max_bytes=4096)
_url = Text(pattern=r"https?://[^\s/]+\S*", description="an http:// or https:// address")
_socket = Text(max_bytes=107)  # sun_path of unix(7), less its final zero
_dotted = Text(
    pattern=r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)+)?", description="a dotted name such as package.module.Class"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one server process, made by `load_settings`, or directly in tests."""

    host: str = _server.option("127.0.0.1", Text(max_bytes=255), "The address to listen on.", short="-o")
    port: int = _server.option(
        8000, Whole(0, 65535), "The TCP port to listen on; 0 takes any free one.", short="-p"
    )
    unix_socket: str = _server.option(
        "", _socket, "Path of a unix socket to listen on, instead of host and port."
    )
    metrics_port: int = _server.option(
        0,
        Whole(0, 65535),
        "A port of its own for /metrics without credentials, /healthz and /readyz; 0 means none (docs/metrics.md).",
    )
    metrics_host: str = _server.option(
        "127.0.0.1", Text(max_bytes=255), "The address to listen on at metrics_port."
    )
    workers: int = _server.option(
        1, Whole(1, 256), "Number of processes that share the port; more than one needs a redis engine."
    )
    ssl_certfile: str = _server.option("", _path, "Path of a PEM certificate chain; enables TLS.")
    ssl_keyfile: str = _server.option("", _path, "Path of the certificate's PEM key.")
    enforce_https: bool = _server.option(False, Switch(), "Answer requests over plain HTTP with 406.")
    http_scheme: HttpScheme = _server.option(
        "",
        Choice[HttpScheme]("", "http", "https"),
        "Scheme of redirects; empty means the scheme of the request.",
    )
    debug: bool = _server.option(
        False, Switch(), "Log at level debug, with one line for each request.", short="-d"
    )
    demo: bool | None = _server.option(
        None,
        AutoSwitch(),
        "Serve the chat demo at /demo; auto means only when bound to loopback.",
        short="-e",
        per_app=True,
    )
    demo_app_url: str = _server.option(
        "http://127.0.0.1",
        _url,
        "Has no effect; accepted because configuration files of the older generations set it.",
    )
    log_level: LogLevel = _server.option(
        "info",
        Choice[LogLevel]("debug", "info", "warning", "error", "critical"),
        "The least severe level to log.",
    )
    log_format: LogFormat = _server.option(
        "human",
        Choice[LogFormat]("human", "json"),
        "Log one readable line (human) or one JSON object (json) for each event.",
    )
    otel: bool = _server.option(
        False,
        Switch(),
        "Record API calls as spans of OpenTelemetry; needs channelstream[otel] (docs/opentelemetry.md).",
    )
    engine: str = _server.option(
        "memory",
        Text(pattern=PATTERN, description=FORMS),
        "Where channels, users and history are kept: memory in this process, sqlite in a file, redis in a Redis"
        " server that several nodes share (docs/engines.md has its other forms, and clusters).",
    )
    compression: bool = _server.option(
        False, Switch(), "Compress WebSocket messages of 256 bytes and more for clients that offer it."
    )
    drain_timeout_s: float = _server.option(
        5.0,
        Number(0, 600),
        "Longest time to close all streams at shutdown; those left after it are dropped.",
        unit="seconds",
    )
    drain_spread_s: float = _server.option(
        0.0,
        Number(0, 3600),
        "Time over which streams are closed at shutdown, while calls are answered; 0 closes all at once.",
        unit="seconds",
    )

    secret: str = _access.option(
        "secret",
        Text(),
        "The key with which applications sign requests.",
        short="-s",
        secret=True,
        per_app=True,
    )
    keys_file: str = _access.option(
        "",
        _path,
        "Path of a file with further keys, for all applications: `channelstream keys` writes it, and SIGHUP reads it again"
        " (docs/security.md).",
    )
    admin_user: str = _access.option(
        "admin",
        Text(),
        "The user name of the sign-in form; with HTTP Basic any name is accepted.",
        per_app=True,
    )
    admin_secret: str = _access.option(
        "admin_secret",
        Text(),
        "The password for signing in to /admin.",
        short="-a",
        secret=True,
        per_app=True,
    )
    admin_reader_user: str = _access.option(
        "reader",
        Text(),
        "The user name of a second sign-in, which may look at all of /admin and change nothing.",
        per_app=True,
    )
    admin_reader_secret: str = _access.option(
        "",
        Text(),
        "The password of the second sign-in, also with HTTP Basic; empty means that there is none.",
        secret=True,
        per_app=True,
    )
    cookie_secret: str = _access.option(
        "",
        Text(),
        "The key that signs the admin cookie; empty means a random key at each start, the same for all workers.",
        secret=True,
    )
    allow_posting_from: tuple[str, ...] = _access.option(
        ("127.0.0.1",),
        Networks(),
        "Addresses and networks that may call the API; 0.0.0.0 means everybody.",
        short="-x",
        per_app=True,
    )
    trusted_proxies: tuple[str, ...] = _access.option(
        (),
        Networks(),
        "Addresses and networks whose X-Forwarded-For, Forwarded, X-Script-Name and scheme headers are trusted.",
    )
    metrics_allow: tuple[str, ...] = _access.option(
        (),
        Networks(),
        "Addresses and networks that may read /metrics without credentials; admins always may. At metrics_port, empty"
        " means everybody who reaches it.",
    )
    allow_cors: tuple[str, ...] = _access.option(
        (),
        Origins(),
        "Origins of pages that may open streams and read answers; empty means all.",
        per_app=True,
    )
    request_signing: RequestSigning = _access.option(
        "any",
        Choice[RequestSigning]("any", "signed", "old"),
        "Which credentials calls may have: signatures over the whole request (signed), those of the older generations (old),"
        " or both and bearer keys (any) (docs/security.md).",
        per_app=True,
    )
    validate_requests: bool = _access.option(
        True, Switch(), "Check the age of signatures; false accepts signatures of any age.", per_app=True
    )
    signature_text: SignatureText = _access.option(
        "compat",
        Choice[SignatureText]("compat", "path", "any"),
        "Which text a signature must hold: path means the path of the call; compat also accepts text that does not"
        " begin with a slash; any accepts every text.",
        per_app=True,
    )
    signature_max_age_s: float = _access.option(
        60.0, _age, "How old a signature may be.", unit="seconds", per_app=True
    )
    signature_max_ahead_s: float = _access.option(
        60.0,
        Number(0, _DAY_S),
        "How far a signature's clock may be ahead of the server's.",
        unit="seconds",
        per_app=True,
    )
    raw_secret_in_query: RawSecret = _access.option(
        "loopback",
        Choice[RawSecret]("loopback", "always", "never"),
        "Which callers may send the secret itself as ?secret= instead of a signature.",
        per_app=True,
    )
    signature_checker: str = _access.option(
        "", _dotted, "Dotted name of a class whose `unsign` replaces the signature check.", per_app=True
    )

    token_max_age_s: float = _access.option(
        0.0,
        Number(0, 365 * _DAY_S),
        "How far ahead a client's token may expire; 0 accepts no tokens (docs/tokens.md).",
        unit="seconds",
        per_app=True,
    )
    token_audience: str = _access.option(
        "",
        Text(max_bytes=512),
        "What the claim aud of a client's token must name; empty accepts only tokens without it.",
        per_app=True,
    )
    token_issuers: tuple[str, ...] = _access.option(
        (),
        Issuers(),
        "Who else may sign clients' tokens, with private keys: the claim iss, the algorithm and the public keys of each"
        " (docs/tokens.md).",
        per_app=True,
    )
    client_state: bool = _access.option(
        False, Switch(), "Let clients with tokens change the states of their users.", per_app=True
    )

    heartbeat_interval_s: float = _timings.option(
        5.0, _delay, "Time between two heartbeats on a stream.", unit="seconds"
    )
    poll_timeout_s: float = _timings.option(
        5.0, _delay, "How long a long poll waits for an event.", unit="seconds"
    )
    unattached_timeout_s: float = _timings.option(
        15.0, _delay, "How long a connection that never had a stream is kept.", unit="seconds"
    )
    poll_gap_s: float = _timings.option(
        15.0, _delay, "How long a connection is kept between two long polls.", unit="seconds"
    )
    detach_grace_s: float = _timings.option(
        10.0, Number(0, _DAY_S), "How long a connection is kept after its stream was lost.", unit="seconds"
    )
    ping_interval_s: float = _timings.option(
        20.0,
        _delay,
        "Time between two WebSocket pings; a stream whose client acknowledges nothing for two of them is dropped.",
        unit="seconds",
    )
    upgrade_pause_s: float = _timings.option(
        0.3,
        Number(0, 60),
        "How long an upgrade waits for requests in progress, and a third of it for what is written to streams; new requests"
        " wait meanwhile.",
        unit="seconds",
    )
    engine_timeout_s: float = _timings.option(
        5.0,
        _delay,
        "How long an engine outside this process may take to answer before it counts as unreachable.",
        unit="seconds",
    )
    node_lease_s: float = _timings.option(
        10.0,
        Number(1, _DAY_S),
        "Lease of a node that shares an engine: how long the connections of a dead node are kept.",
        unit="seconds",
    )
    slow_turn_ms: float = _timings.option(
        100.0,
        Number(0, 60_000),
        "An event loop turn that lasts longer is counted, and logged with the functions that ran; 0 reports none.",
        unit="milliseconds",
    )
    gc_users_after_s: float = _timings.option(
        float(_DAY_S), _age, "How long a user without a connection is kept.", unit="seconds"
    )
    gc_channels_after_s: float = _timings.option(
        float(3 * _DAY_S),
        _age,
        "How long an idle channel without a connection is kept.",
        unit="seconds",
        alias="gc_channels_after",
    )

    max_body_bytes: int = _limits.option(
        4 << 20, Whole(1024, _GIB), "Longest body of a request.", unit="bytes"
    )
    max_head_bytes: int = _limits.option(
        32_768, Whole(1024, 1 << 20), "Longest head of a request: its line and headers.", unit="bytes"
    )
    head_timeout_s: float = _limits.option(
        10.0, _delay, "How long a client may take to send the head of a request.", unit="seconds"
    )
    body_timeout_s: float = _limits.option(
        30.0, _delay, "How long a client may take to send the body of a request.", unit="seconds"
    )
    keep_alive_s: float = _limits.option(
        75.0,
        _delay,
        "How long an idle HTTP connection is kept open; set it longer than the proxy in front does.",
        unit="seconds",
    )
    max_inbound_bytes: int = _limits.option(
        131_072, Whole(126, 64 << 20), "Longest WebSocket message a client may send.", unit="bytes"
    )
    max_inbound_frames: int = _limits.option(
        200,
        Whole(1, 1_000_000),
        "How many WebSocket frames, pings and fragments included, a client may send in one `ping_interval_s`.",
        unit="frames per ping interval",
    )
    max_client_errors: int = _limits.option(
        10,
        Whole(0, 1_000_000),
        "How many faulty commands a client with a token may send on one WebSocket; one more closes it.",
        unit="commands",
    )
    outbox_bytes: int = _limits.option(
        65_536, Whole(1024, _GIB), "Unsent bytes at which a stream counts as slow.", unit="bytes"
    )
    max_connections: int = _limits.option(
        0,
        Whole(0, 10_000_000),
        "Maximum of open sockets; 0 means as many as the process may open descriptors.",
        unit="sockets",
    )
    shed_memory_bytes: int = _limits.option(
        0,
        Whole(0, 1 << 40),
        "Resident memory of a process above which it sheds load; 0 means 90 % of its cgroup's limit, divided by `workers`,"
        " and no bound without such a limit.",
        unit="bytes",
    )
    shed_loop_delay_ms: float = _limits.option(
        0.0,
        Number(0, 60_000),
        "Delay of the event loop above which a process sheds load, if it lasts for 3 seconds; 0 means no bound.",
        unit="milliseconds",
    )
    max_messages: int = _limits.option(
        100_000,
        Whole(1, 10_000_000),
        "Maximum of messages in the list of one call.",
        unit="messages",
        per_app=True,
    )
    max_message_rate: float = _limits.option(
        0.0,
        Number(0, 1_000_000),
        "Messages, edits and deletions that each process accepts of an application; 0 means no bound.",
        unit="messages a second",
        per_app=True,
    )
    max_app_connections: int = _limits.option(
        0,
        Whole(0, 10_000_000),
        "Maximum of registered connections of an application in each process; 0 means no bound.",
        unit="connections",
        per_app=True,
    )
    max_app_channels: int = _limits.option(
        0,
        Whole(0, 10_000_000),
        "Maximum of channels of an application that have a connection in each process; 0 means no bound.",
        unit="channels",
        per_app=True,
    )
    max_channels_per_connection: int = _limits.option(
        1000,
        Whole(1, 100_000),
        "Maximum of channels to which one connection may be subscribed.",
        unit="channels",
    )
    info_users_max: int = _limits.option(
        1000,
        Whole(1, 100_000),
        "Maximum of users of a channel that one answer names.",
        unit="users",
        per_app=True,
    )
    history_size_max: int = _limits.option(
        1000, Whole(0, 100_000), "Longest history that a channel may ask for.", unit="messages"
    )
    log_events: int = _limits.option(
        1000, Whole(0, 1_000_000), "Events kept for each channel, for resuming streams.", unit="events"
    )
    log_age_s: float = _limits.option(
        600.0, _age, "How long events are kept for resuming streams.", unit="seconds"
    )
    user_log_events: int = _limits.option(
        200, Whole(0, 1_000_000), "Private messages kept for each user, for resuming.", unit="messages"
    )
    log_bytes: int = _limits.option(
        256 << 20, Whole(0, 1 << 40), "Total size of all events kept for resuming.", unit="bytes"
    )

    apps: tuple[AppSection, ...] = ()
    """The applications besides the default one."""

    def of_app(self, section: AppSection) -> Self:
        """Return the settings of a further application: what its section does not set is as for the default one.

        Secrets and issuers of tokens are no such option: one that is not set is empty.
        """
        own: dict[str, Any] = {"apps": (), "token_issuers": (), **dict.fromkeys(APP_SECRETS, "")}
        values = own | dict(section.values)
        return replace(self, **values)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets, those of further applications included."""
        own = (getattr(self, option.name) for option in OPTIONS if option.declared.secret)
        return (
            *own,
            *(str(app.values[name]) for app in self.apps for name in APP_SECRETS if name in app.values),
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server; a unix socket counts."""
        return bool(self.unix_socket) or is_loopback(self.host)

    @property
    def serves_demo(self) -> bool:
        """Whether the demo is served: as `demo` is set, or on loopback only if it is not set."""
        return self.loopback if self.demo is None else self.demo


OPTIONS: tuple[Option, ...] = tuple(options_of(Settings))
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(option.declared.section for option in OPTIONS))
BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS} | {
    option.declared.alias: option for option in OPTIONS if option.declared.alias
}
"""Options by their names and aliases."""
PER_APP: tuple[str, ...] = tuple(option.name for option in OPTIONS if option.declared.per_app)
"""The names of options that each application may set for itself."""
APP_SECRETS: tuple[str, ...] = tuple(name for name in PER_APP if BY_NAME[name].declared.secret)
"""Those of them that no application has from another one."""
