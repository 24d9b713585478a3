"""All metrics of the server: name, type, labels and meaning, each declared once.

`docs/metrics.md`, the dashboard and the alert rules are compared with this table by tests. Metrics whose names begin with
`process_` are those of prometheus-client.
"""

from enum import Enum
from typing import NamedTuple

PREFIX = "channelstream_"
WORKER = "worker"
"""The label that each sample gets: the number of its worker; 0 with one process."""


class Metric(NamedTuple):
    """A metric.

    Attributes:
        kind: the type, as OpenMetrics names it.
        labels: besides `WORKER`.
        text: its meaning, for the scrape and the documentation.
    """

    kind: str
    labels: tuple[str, ...]
    text: str


class Metrics(Enum):
    """The metrics; the name of each begins with `PREFIX`."""

    connections = Metric(
        "gauge",
        ("application", "transport"),
        "Registered connections by the transport of their stream; none: without a stream, as between two long polls.",
    )
    streams_opened = Metric("counter", ("transport",), "Opened streams; each long poll is one.")
    streams_closed = Metric(
        "counter",
        ("transport", "code"),
        "Closed WebSockets and event streams by close code; none: the socket was lost.",
    )
    connections_ended = Metric("counter", ("code",), "Connections that ended at this node, by close code.")
    messages_published = Metric(
        "counter", ("application",), "Messages that this process accepted, without duplicates."
    )
    limited = Metric(
        "counter",
        ("application", "limit"),
        "What was refused at a limit of an application (messages, connections, channels, new_channels), of a key"
        " (key_calls, key_messages) or of clients (commands, by connection_commands, connection_bytes, user_commands and"
        " user_messages).",
    )
    address_limited = Metric(
        "counter",
        ("what",),
        "What strangers were refused for its rate, by their addresses: stream, credentials or sign_in.",
    )
    deliveries = Metric("counter", (), "Events delivered to connections, one for each event and recipient.")
    written_events = Metric(
        "counter", (), "Events written to streams, one for each event and recipient, replayed ones included."
    )
    written_bytes = Metric("counter", (), "Bytes of these events, without those of TLS and of HTTP.")
    delivery_latency_seconds = Metric(
        "histogram",
        (),
        "Time from the arrival of the oldest event of a write at this process to the write, for each write.",
    )
    loop_delay_seconds = Metric(
        "histogram", (), "Delay of a timer of the event loop: an event waits about as long for its turn."
    )
    slow_turns = Metric("counter", (), "Turns of the event loop longer than slow_turn_ms.")
    backlog_bytes = Metric("gauge", (), "Bytes written to streams that their clients have not taken yet.")
    slow_clients = Metric("counter", (), "How often a client was too slow to be written to.")
    replayed_events = Metric("counter", (), "Events read from the log for clients that missed them.")
    lost_channels = Metric("counter", (), "Channels that clients were sent as lost when they resumed.")
    log_bytes = Metric("gauge", (), "Bytes of the log in this process; absent with Redis, which has the log.")
    engine_call_seconds = Metric(
        "summary",
        ("operation",),
        "Calls of an engine with a file or a service, and the time until their end.",
    )
    engine_errors = Metric(
        "counter", ("operation",), "Calls that failed because the engine was out of reach."
    )
    auth_refused = Metric("counter", ("reason",), "API calls refused for their address or signature.")
    shed = Metric(
        "counter", ("what",), "What was refused because the process sheds load: connection, stream or replay."
    )
    http_requests = Metric(
        "counter",
        ("route", "status"),
        "Answered HTTP requests by call, stream or probe; other: pages, /metrics and unknown paths.",
    )
    webhook_events = Metric(
        "counter",
        ("application", "result"),
        "Events for receivers of webhooks, one for each event and receiver: sent, or given_up.",
    )
    webhook_calls_failed = Metric(
        "counter", ("application",), "Calls of receivers of webhooks that were not answered with 2xx."
    )
    webhook_events_pending = Metric(
        "gauge",
        ("application",),
        "Events on their way to receivers, at the node that sends webhooks, at most 40,000 of each; at others 0.",
    )
    webhook_events_refused = Metric(
        "gauge",
        ("application",),
        "Events that receivers refuse alone, which are sent again by themselves, at the node that sends; at others 0.",
    )
    webhook_events_dropped = Metric(
        "counter",
        ("where",),
        "Events that no webhook will report, since too many waited: in the outbox, counted by the node that sends then, or"
        " at this node on their way there.",
    )
    upgrades = Metric(
        "counter",
        ("result",),
        "Upgrades since the service was started, of all its processes: done, or failed.",
    )
    ready = Metric("gauge", (), "1 if /readyz answers 200.")
    build_info = Metric("gauge", ("version", "engine"), "1, with the version and the engine.")
    worker_up = Metric("gauge", (), "1 if this worker answered the scrape, else 0.")

    @property
    def full_name(self) -> str:
        return PREFIX + self.name

    @property
    def sample_name(self) -> str:
        """The name of its samples; a histogram and a summary have further suffixes."""
        return f"{self.full_name}_total" if self.value.kind == "counter" else self.full_name

    def names(self) -> set[str]:
        """Return the names of all its samples."""
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
        return {self.sample_name + suffix for suffix in suffixes.get(self.value.kind, ("",))}
