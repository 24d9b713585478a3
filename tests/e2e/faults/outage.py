"""An outage of Redis, and the promises during it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.e2e.faults.client import Client, Stream
from tests.e2e.faults.cluster import Node
from tests.e2e.faults.publisher import Attempt


@dataclass
class Outage:
    """From its begin to its end nothing new reaches Redis from these nodes.

    Attributes:
        had: the streams of the clients at its beginning, by user.
        kept: those at its end.
    """

    nodes: Sequence[Node]
    begun_s: float
    had: Mapping[str, Stream | None]
    ended_s: float = float("inf")
    kept: Mapping[str, Stream | None] = field(default_factory=dict)

    def refused(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Return the requests that were answered 503, of those that were sent and answered in it."""
        return [attempt for attempt in self._within(attempts) if attempt.status == 503]

    def _within(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        return [
            each
            for each in attempts
            if each.node in self.nodes and each.begun_s > self.begun_s and each.ended_s < self.ended_s
        ]

    def check(self, attempts: Sequence[Attempt], clients: Sequence[Client]) -> None:
        """Every message was refused, and every WebSocket and event stream that was open stayed open.

        Raises:
            AssertionError: it was not so.
        """
        statuses = {attempt.status for attempt in self._within(attempts)}
        assert statuses == {503}, f"answers in an outage: {statuses}"
        for client in clients:
            self._check_stream(client)

    def _check_stream(self, client: Client) -> None:
        had = self.had[client.user]
        if had is None or not had.resumed or had.transport == "poll" or had.node not in self.nodes:
            return
        assert had.ended_s is None or had.ended_s >= self.ended_s, f"{client.user}: {had}"
