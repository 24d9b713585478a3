"""All that records spans in one process."""

import os
from typing import Any, Self, TypeVar

from channelstream import __version__
from channelstream.api.table import Endpoint
from channelstream.integrations.spans.calls import Calls
from channelstream.integrations.spans.deliveries import Deliveries
from channelstream.integrations.spans.exporting import Exporting
from channelstream.service.signals import Signals

T = TypeVar("T")


class Recorder:
    """Records calls and deliveries as spans (`spans.base.Spans`)."""

    def __init__(self, exporting: Exporting) -> None:
        self._exporting = exporting
        self._deliveries = Deliveries()
        tracer: Any = exporting.provider.get_tracer("channelstream", __version__)
        self._calls = Calls(tracer, self._deliveries)

    @classmethod
    def from_environment(cls) -> Self:
        """Return a recorder as the variables of OpenTelemetry configure it.

        Raises:
            ConfigError: they ask for what is not supported.
        """
        return cls(Exporting(os.environ))

    def recorded(self, row: Endpoint) -> Endpoint:
        return self._calls.recorded(row)

    def watched(self, engine: T) -> T:
        return self._deliveries.watched(engine)

    def consume(self, signals: Signals) -> None:
        signals.delivered.connect(self._deliveries.delivered)

    async def close(self) -> None:
        self._deliveries.close()
        await self._exporting.close()
