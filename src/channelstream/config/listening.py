"""The address of a server as text, and the error if it cannot be used, in a sentence for the operator."""

import errno
import os
import socket
from collections.abc import Iterator

from channelstream.config.settings import Settings
from channelstream.errors import ConfigError

_TCP = {
    errno.EADDRINUSE: (
        "port",
        "another program, perhaps a channelstream, listens there: stop it, or take another port with -p",
    ),
    errno.EACCES: ("port", "ports below 1024 need a privilege: take another port with -p"),
    errno.EADDRNOTAVAIL: ("host", "it is no address of this machine: name one with -o"),
}
"""The option and the advice for each error."""
_UNIX = {
    errno.ENOENT: "make its directory, or take another path with --unix-socket",
    errno.EACCES: "give the server the right to write to its directory, or take another path with --unix-socket",
}
"""The advice for each error at a path."""
_NO_HOST = ("host", "name an address of this machine with -o")


def address_of(settings: Settings) -> str:
    """Return the address of a server, for people."""
    if settings.unix_socket:
        return f"unix:{settings.unix_socket}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.ssl_certfile else 'http'}://{host}:{settings.port}"


def announcements(settings: Settings, ending: str = "Ctrl-C") -> Iterator[str]:
    """Yield the lines that are logged once the server listens.

    Args:
        ending: what ends it.
    """
    where = f"unix socket {settings.unix_socket}" if settings.unix_socket else address_of(settings)
    yield f"running on {where} ({ending} ends it)"
    if not settings.unix_socket:  # A page at a socket has no address that a browser takes.
        demo = f"demo at {address_of(settings)}/demo, " if settings.serves_demo else ""
        yield f"{demo}admin at {address_of(settings)}/admin"
    if settings.apps:
        yield f"applications at {address_of(settings)}/app/ID: {', '.join(each.id for each in settings.apps)}"
    if settings.metrics_port:
        readers = (
            "the addresses of metrics_allow" if settings.metrics_allow else "everybody who reaches the port"
        )
        yield f"metrics at {_metrics_address(settings)}/metrics, without credentials, for {readers}"


def refusal(settings: Settings, error: OSError) -> ConfigError:
    """Return the error to raise if the address of the settings cannot be used."""
    if settings.unix_socket:
        return _unix_refusal(settings.unix_socket, error)
    unknown = _NO_HOST if isinstance(error, socket.gaierror) else ("host", "")
    option, advice = _TCP.get(error.errno or 0, unknown)
    return ConfigError(
        f"{option}: cannot listen on {address_of(settings)}: {_reason(error)}; {advice}".rstrip("; ")
    )


def metrics_refusal(settings: Settings, error: OSError) -> ConfigError:
    """Return the error to raise if `metrics_host` and `metrics_port` cannot be used."""
    where = _metrics_address(settings)
    return ConfigError(f"metrics_port: cannot listen on {where}: {_reason(error)}; take another one")


def _metrics_address(settings: Settings) -> str:
    host = settings.metrics_host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.metrics_port}"


def _unix_refusal(path: str, error: OSError) -> ConfigError:
    begin = f"unix_socket: cannot listen on {path!r}"
    if error.errno == errno.EADDRINUSE:
        advice = "stop it, or take another path with --unix-socket"
        return ConfigError(f"{begin}: another server listens there; {advice}")
    if isinstance(error, FileExistsError):
        return ConfigError(
            f"{begin}: it exists, and is a link or no socket; take another path with --unix-socket"
        )
    advice = _UNIX.get(error.errno or 0, "")
    return ConfigError(f"{begin}: {_reason(error)}; {advice}".rstrip("; "))


def _reason(error: OSError) -> str:
    """Return the reason without the address, which asyncio adds to the text."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error.strerror or error)
    return os.strerror(error.errno)
