"""A network of its own for a server and its clients, whose packets a test can drop without either side being informed."""

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
"""For setns(2): Python has no `os.setns` before 3.12."""


def why_not() -> str | None:
    """Say why there can be no namespace here; None: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no `ip` on the PATH: apt-get install iproute2"
    if _ip("netns", "add", probe := _name()) != 0:
        return "this system allows no network namespaces"
    is_entered = _ip("-n", probe, "link") == 0
    _ip("netns", "del", probe)
    return None if is_entered else "no network namespace can be entered here, as in a chroot"


class Line:
    """A line between two network namespaces: one of servers, with a loopback device, and one of clients.

    None of it is in the machine's own network: a browser of another test breaks off its requests when that changes.
    """

    servers_host = "198.18.0.1"
    """As the clients see it."""

    def __init__(self) -> None:
        self._servers, self._clients = _name(), _name()
        for name in (self._servers, self._clients):
            _must("netns", "add", name)
        _must("-n", self._servers, "link", "set", "lo", "up")
        _must(
            "-n",
            self._servers,
            "link",
            "add",
            "near",
            "type",
            "veth",
            "peer",
            "name",
            "far",
            "netns",
            self._clients,
        )
        for name, device, address in (
            (self._servers, "near", self.servers_host),
            (self._clients, "far", "198.18.0.2"),
        ):
            _must("-n", name, "address", "add", f"{address}/30", "dev", device)
            _must("-n", name, "link", "set", device, "up")

    def among_servers(self) -> AbstractContextManager[None]:
        """Make the sockets and processes of this thread at the servers' end."""
        return _inside(self._servers)

    def among_clients(self) -> AbstractContextManager[None]:
        """Make the sockets of this thread at the clients' end."""
        return _inside(self._clients)

    def cut(self) -> None:
        """Drop every packet from now on; neither side is informed."""
        _must("-n", self._clients, "link", "set", "far", "down")

    def close(self) -> None:
        for name in (self._servers, self._clients):
            _ip("netns", "del", name)


@contextmanager
def _inside(name: str) -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open() as here, Path("/run/netns", name).open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(here.fileno())


def _name() -> str:
    return f"cs{secrets.token_hex(5)}"


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> int:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode


def _must(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
