"""Periodic tasks of a node: a failure ends one run, and never the task."""

import logging
from collections.abc import Awaitable, Callable

from channelstream.errors import Unavailable

logger = logging.getLogger(__name__)


async def failure_reason(work: Callable[[], Awaitable[None]]) -> str | None:
    """Run a periodic task of this node; return why it failed, None if it succeeded."""
    try:
        await work()
    except Unavailable as error:
        logger.debug("a periodic task has to wait: %s", error)
        return error.message
    except Exception as error:
        # If a task ended with an error, the node would have no link or lease until it is restarted.
        logger.exception("a periodic task failed")
        return str(error)
    return None
