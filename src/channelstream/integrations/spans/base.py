"""What the server asks of the part that records spans, and the part that records none."""

from typing import Protocol, TypeVar

from channelstream.api.table import Endpoint
from channelstream.service.signals import Signals

T = TypeVar("T")


class Spans(Protocol):
    """Records spans."""

    def recorded(self, row: Endpoint) -> Endpoint:
        """Return a row of the API whose calls have spans."""

    def watched(self, engine: T) -> T:
        """Return an engine that reports which call publishes what."""

    def consume(self, signals: Signals) -> None:
        """Record what the node delivers from now on."""

    async def close(self) -> None:
        """Export what is recorded, for a short time, and end."""


class NoSpans:
    """Records nothing, and leaves everything as it is."""

    def recorded(self, row: Endpoint) -> Endpoint:
        return row

    def watched(self, engine: T) -> T:
        return engine

    def consume(self, signals: Signals) -> None:
        """Consume nothing."""

    async def close(self) -> None:
        """End nothing."""


def make_spans(is_on: bool) -> Spans:
    """Return what records spans. Its exporter has a thread, which a fork would lose: call this after the last fork.

    Raises:
        ConfigError: a variable of OpenTelemetry asks for what is not supported.
    """
    if not is_on:
        return NoSpans()
    from channelstream.integrations.spans.recorder import Recorder

    return Recorder.from_environment()
