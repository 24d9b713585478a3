"""Reports the state of this process to its service manager, such as systemd: sd_notify(3) without its library.

The protocol is one datagram with lines `NAME=value`, sent to the unix socket that `NOTIFY_SOCKET` names.
"""

import logging
import os
import socket
from collections.abc import MutableMapping

ADDRESS = "NOTIFY_SOCKET"
READY = "READY=1"
"""The start is complete."""
STOPPING = "STOPPING=1"
"""The drain begins."""
SEND_S = 1.0
"""How long the socket may be full, in seconds: the loop waits for it."""

logger = logging.getLogger(__name__)


def forget(environ: MutableMapping[str, str] = os.environ) -> None:
    """Send nothing from this process on, nor from its children: another process reports for all."""
    environ.pop(ADDRESS, None)


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Send a state; nothing without a service manager. A failure is logged, and the server goes on."""
    address = environ.get(ADDRESS)
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_S)
            sender.sendto(state.encode(), _path(address))
    except (OSError, ValueError) as error:
        logger.warning("the service manager is not informed of %s: %s", state.partition("\n")[0], error)


def _path(address: str) -> str:
    """Return the address as `sendto` takes it.

    Raises:
        ValueError: it is not that of a unix socket.
    """
    if address[0] not in "/@":
        raise ValueError(f"{ADDRESS} is no path of a unix socket")
    # The abstract namespace of unix(7).
    return "\0" + address[1:] if address[0] == "@" else address
