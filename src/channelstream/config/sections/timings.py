"""How long things are kept or waited for."""

from dataclasses import dataclass

from channelstream.config.option import Section
from channelstream.config.sections.kinds import AGE, DAY_S, DELAY
from channelstream.config.values import Number

_section = Section("Timings")


@dataclass(frozen=True, kw_only=True)
class TimingOptions:
    """The options of the section Timings."""

    heartbeat_interval_s: float = _section.option(
        5.0, DELAY, "Time between two heartbeats on a stream.", unit="seconds"
    )
    poll_timeout_s: float = _section.option(
        5.0, DELAY, "How long a long poll waits for an event.", unit="seconds"
    )
    unattached_timeout_s: float = _section.option(
        15.0, DELAY, "How long a connection that never had a stream is kept.", unit="seconds"
    )
    poll_gap_s: float = _section.option(
        15.0, DELAY, "How long a connection is kept between two long polls.", unit="seconds"
    )
    detach_grace_s: float = _section.option(
        10.0, Number(0, DAY_S), "How long a connection is kept after its stream was lost.", unit="seconds"
    )
    ping_interval_s: float = _section.option(
        20.0,
        DELAY,
        "Time between two WebSocket pings; a stream whose client acknowledges nothing for two of them is dropped.",
        unit="seconds",
    )
    upgrade_pause_s: float = _section.option(
        0.3,
        Number(0, 60),
        "How long an upgrade waits for requests in progress, and a third of it for what is written to streams; new requests"
        " wait meanwhile.",
        unit="seconds",
    )
    engine_timeout_s: float = _section.option(
        5.0,
        DELAY,
        "How long an engine outside this process may take to answer before it counts as unreachable.",
        unit="seconds",
    )
    node_lease_s: float = _section.option(
        10.0,
        Number(1, DAY_S),
        "Lease of a node that shares an engine: how long the connections of a dead node are kept.",
        unit="seconds",
    )
    slow_turn_ms: float = _section.option(
        100.0,
        Number(0, 60_000),
        "An event loop turn that lasts longer is counted, and logged with the functions that ran; 0 reports none.",
        unit="milliseconds",
    )
    gc_users_after_s: float = _section.option(
        float(DAY_S), AGE, "How long a user without a connection is kept.", unit="seconds"
    )
    gc_channels_after_s: float = _section.option(
        float(3 * DAY_S),
        AGE,
        "How long an idle channel without a connection is kept.",
        unit="seconds",
        alias="gc_channels_after",
    )
