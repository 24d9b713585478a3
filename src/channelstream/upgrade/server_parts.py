"""The parts of a server, as the process that hands them over and the one that takes them over see them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from channelstream.core.nonces import Nonces
from channelstream.housekeeping import Housekeeping
from channelstream.http.listener import Listener
from channelstream.http.shared import HttpServer
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.service import Node
from channelstream.transports.streams import Streams


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts of a server that are handed over, and those that are held meanwhile.

    Attributes:
        pause_s: how long the old process waits for requests in progress, and for streams that catch up, in seconds; a third
            of it for the kernel to take what was written.
        nonces: of signed requests, by application.
        save_figures: writes what the figures of the past lack so far, within a second.
        webhooks: they are sent by the process that serves.
    """

    listener: Listener
    metrics_listener: Listener
    http_server: HttpServer
    streams: Streams
    housekeeping: Housekeeping
    pause_s: float
    nonces: Mapping[str, Nonces]
    save_figures: Callable[[], Awaitable[None]]
    webhooks: Webhooks

    @property
    def node(self) -> Node:
        return self.streams.node
