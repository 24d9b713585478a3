"""How many sockets a process may open for clients: the limit of the system, less what the server needs itself."""

import logging
import resource

from channelstream.config import Settings
from channelstream.http.listener import ACCEPTS_AT_ONCE
from channelstream.http.shared import SPARE_SOCKETS
from channelstream.integrations.metrics.port import MAX_SOCKETS as METRICS_SOCKETS

DESCRIPTORS_FOR_US = 64
"""Descriptors that the process itself needs: logs, the loop, the files or links of the engine."""
ADDRESSES = 2
"""Addresses of a host at which a port listens: of IPv4 and of IPv6."""
FEW_DESCRIPTORS = 4096
"""A service with fewer is full long before its machine is."""

logger = logging.getLogger(__name__)


def sockets_allowed(settings: Settings) -> int:
    """Raise the limit of open descriptors as far as allowed; return how many sockets of clients may be open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = sockets_within(hard, settings)
    if settings.max_connections > most:
        logger.warning("max_connections is reduced to %d: the process may not open more sockets", most)
    elif not settings.max_connections and hard < FEW_DESCRIPTORS:
        logger.warning(
            "the process takes %d sockets of clients: raise LimitNOFILE of its unit, or `ulimit -Hn`, which is %d",
            most,
            hard,
        )
    return min(settings.max_connections or most, most)


def sockets_within(limit: int, settings: Settings) -> int:
    """Return the number of sockets for clients that a limit of open descriptors admits."""
    return max(1, limit - reserved_descriptors(settings))


def reserved_descriptors(settings: Settings) -> int:
    """Return how many descriptors are kept for what does not count as a connection of the server.

    That is the process itself, its ports with the sockets that they refuse, and scrapes between workers.
    """
    of_port = ADDRESSES * ACCEPTS_AT_ONCE + SPARE_SOCKETS
    of_metrics = of_port + METRICS_SOCKETS if settings.metrics_port else 0
    return DESCRIPTORS_FOR_US + of_port + of_metrics + 2 * (settings.workers - 1)
