"""Starts the parent of the workers, with the port and the directory that they share."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from channelstream.config import Settings
from channelstream.config.cookies import cookie_secret_or_drawn
from channelstream.config.listening import metrics_refusal, refusal
from channelstream.config.safety import check_safety
from channelstream.supervisor.ports import reserve
from channelstream.supervisor.renewal import Kept
from channelstream.supervisor.supervisor import Supervisor

logger = logging.getLogger(__name__)


def supervise(settings: Settings) -> int:
    """Serve with `settings.workers` processes until a signal arrives; return the exit code.

    A worker returns from here as well: with its own exit code, or by the ConfigError that keeps it from serving.

    Raises:
        ConfigError: the address cannot be used.
    """
    kept = Kept.inherited(os.environ)
    if kept is not None:
        return _resume(settings, kept)
    try:
        reserved = reserve(settings.host, settings.port)
    except OSError as error:
        raise refusal(settings, error) from error
    try:
        for_scrapers = reserve(settings.metrics_host, settings.metrics_port) if settings.metrics_port else []
    except OSError as error:
        raise metrics_refusal(settings, error) from error
    port: int = reserved[0].getsockname()[1]
    # All workers need one key for cookies: a browser's next request may go to another worker.
    cookie_secret = cookie_secret_or_drawn(settings.cookie_secret)
    with private_directory() as directory:
        return Supervisor(
            replace(settings, port=port, cookie_secret=cookie_secret), reserved, directory, for_scrapers
        ).run()


def _resume(settings: Settings, kept: Kept) -> int:
    """Supervise the workers of this process, whose program was another one.

    Raises:
        ConfigError: so many workers cannot have what is configured now.
    """
    own = kept.applied_to(settings)
    if settings.workers != own.workers:
        logger.warning("an upgrade does not change workers: restart the service for that")
        check_safety(own)
    with private_directory(kept.directory) as directory:
        supervisor = Supervisor(own, kept.sockets(kept.reserved), directory, kept.sockets(kept.for_scrapers))
        supervisor.resume(kept)
        return supervisor.run()


@contextmanager
def private_directory(kept: str | None = None) -> Iterator[Path | None]:
    """Make a directory that only this user may enter, for the sockets between workers; None where none can be made.

    Args:
        kept: one that was made before.
    """
    parent = os.getpid()
    try:
        directory = Path(kept or mkdtemp(prefix="channelstream-"))
    except OSError as error:
        logger.warning(
            "each worker answers /metrics for itself: there is no directory for their sockets: %s", error
        )
        yield None
        return
    try:
        yield directory
    finally:
        # Workers leave through here as well.
        if os.getpid() == parent:
            shutil.rmtree(directory, ignore_errors=True)
