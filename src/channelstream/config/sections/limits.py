"""The bounds of requests, streams, applications and logs."""

from dataclasses import dataclass

from channelstream.config.networks import Networks
from channelstream.config.option import Section
from channelstream.config.sections.kinds import AGE, DELAY, MAX_RATE
from channelstream.config.values import Number, Whole

_section = Section("Limits")
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """The options of the section Limits."""

    max_body_bytes: int = _section.option(
        4 << 20, Whole(1024, _GIB), "Longest body of a request.", unit="bytes"
    )
    max_head_bytes: int = _section.option(
        32_768, Whole(1024, 1 << 20), "Longest head of a request: its line and headers.", unit="bytes"
    )
    head_timeout_s: float = _section.option(
        10.0, DELAY, "How long a client may take to send the head of a request.", unit="seconds"
    )
    body_timeout_s: float = _section.option(
        30.0, DELAY, "How long a client may take to send the body of a request.", unit="seconds"
    )
    keep_alive_s: float = _section.option(
        75.0,
        DELAY,
        "How long an idle HTTP connection is kept open; set it longer than the proxy in front does.",
        unit="seconds",
    )
    max_inbound_bytes: int = _section.option(
        131_072, Whole(126, 64 << 20), "Longest WebSocket message a client may send.", unit="bytes"
    )
    max_inbound_frames: int = _section.option(
        200,
        Whole(1, 1_000_000),
        "How many WebSocket frames, pings and fragments included, a client may send in one `ping_interval_s`. Some may send"
        " more (docs/limits.md).",
        unit="frames per ping interval",
    )
    max_client_errors: int = _section.option(
        10,
        Whole(0, 1_000_000),
        "How many faulty commands a client with a token may send on one WebSocket; one more closes it.",
        unit="commands",
    )
    max_address_stream_rate: float = _section.option(
        200.0,
        Number(0, MAX_RATE),
        "Streams that each process opens of an address, and 100 times as many at once after a pause; 0 means no bound. As"
        " often it may show wrong credentials (docs/limits.md).",
        unit="streams a second",
    )
    max_address_failure_rate: float = _section.option(
        1.0,
        Number(0.01, MAX_RATE),
        "Failed sign-ins to the admin pages that each process accepts of an address, and 30 at once after a pause.",
        unit="failures a minute",
    )
    unlimited_addresses: tuple[str, ...] = _section.option(
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7"),
        Networks(),
        "Addresses and networks that these two do not bound, besides `trusted_proxies`; 0.0.0.0 means all. By default those"
        " of the machine and of private networks.",
    )
    max_key_call_rate: float = _section.option(
        0.0,
        Number(0, MAX_RATE),
        "Calls that each process accepts of a key, unless `keys_file` has another number for it; 0 means no bound.",
        unit="calls a second",
        per_app=True,
    )
    max_key_message_rate: float = _section.option(
        0.0,
        Number(0, MAX_RATE),
        "Messages, edits and deletions that each process accepts of a key, unless `keys_file` has another number for it; 0"
        " means no bound.",
        unit="messages a second",
        per_app=True,
    )
    max_connection_command_rate: float = _section.option(
        0.0,
        Number(0, MAX_RATE),
        "Commands that each process accepts of a client's connection; 0 means no bound.",
        unit="commands a second",
        per_app=True,
    )
    max_connection_byte_rate: float = _section.option(
        0.0,
        Number(0, 1 << 30),
        "Bytes that a client's connection may publish by commands, in each process; 0 means no bound.",
        unit="bytes a second",
        per_app=True,
    )
    max_user_command_rate: float = _section.option(
        0.0,
        Number(0, MAX_RATE),
        "Commands that each process accepts of all clients of a user; 0 means no bound.",
        unit="commands a second",
        per_app=True,
    )
    max_user_message_rate: float = _section.option(
        0.0,
        Number(0, MAX_RATE),
        "Messages that all clients of a user may publish by commands, in each process; 0 means no bound.",
        unit="messages a second",
        per_app=True,
    )
    outbox_bytes: int = _section.option(
        65_536, Whole(1024, _GIB), "Unsent bytes at which a stream counts as slow.", unit="bytes"
    )
    max_connections: int = _section.option(
        0,
        Whole(0, 10_000_000),
        "Maximum of open sockets; 0 means as many as the process may open descriptors.",
        unit="sockets",
    )
    shed_memory_bytes: int = _section.option(
        0,
        Whole(0, 1 << 40),
        "Resident memory of a process above which it sheds load; 0 means 90 % of its cgroup's limit, divided by `workers`,"
        " and no bound without such a limit.",
        unit="bytes",
    )
    shed_loop_delay_ms: float = _section.option(
        0.0,
        Number(0, 60_000),
        "Delay of the event loop above which a process sheds load, if it lasts for 3 seconds; 0 means no bound.",
        unit="milliseconds",
    )
    max_messages: int = _section.option(
        100_000,
        Whole(1, 10_000_000),
        "Maximum of messages in the list of one call.",
        unit="messages",
        per_app=True,
    )
    max_message_rate: float = _section.option(
        0.0,
        Number(0, MAX_RATE),
        "Messages, edits and deletions that each process accepts of an application; 0 means no bound.",
        unit="messages a second",
        per_app=True,
    )
    max_app_connections: int = _section.option(
        0,
        Whole(0, 10_000_000),
        "Maximum of registered connections of an application in each process; 0 means no bound.",
        unit="connections",
        per_app=True,
    )
    max_app_channels: int = _section.option(
        0,
        Whole(0, 10_000_000),
        "Maximum of channels of an application that have a connection in each process; 0 means no bound.",
        unit="channels",
        per_app=True,
    )
    max_channels_per_connection: int = _section.option(
        1000,
        Whole(1, 100_000),
        "Maximum of channels to which one connection may be subscribed.",
        unit="channels",
    )
    info_users_max: int = _section.option(
        1000,
        Whole(1, 100_000),
        "Maximum of users of a channel that one answer names.",
        unit="users",
        per_app=True,
    )
    history_size_max: int = _section.option(
        1000, Whole(0, 100_000), "Longest history that a channel may ask for.", unit="messages"
    )
    log_events: int = _section.option(
        1000, Whole(0, 1_000_000), "Events kept for each channel, for resuming streams.", unit="events"
    )
    log_age_s: float = _section.option(
        600.0, AGE, "How long events are kept for resuming streams.", unit="seconds"
    )
    user_log_events: int = _section.option(
        200, Whole(0, 1_000_000), "Private messages kept for each user, for resuming.", unit="messages"
    )
    log_bytes: int = _section.option(
        256 << 20,
        Whole(0, 1 << 40),
        "Total size of all events kept for resuming, and of all histories; it does not apply to Redis.",
        unit="bytes",
    )
