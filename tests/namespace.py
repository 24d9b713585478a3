"""A network of its own for clients, whose packets a test can drop without either side being informed."""

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
    _ip("netns", "del", probe)
    return None


class Namespace:
    """A network namespace that a line leads to.

    Attributes:
        host: the address of this side, as those inside see it.
    """

    def __init__(self) -> None:
        self._name = _name()
        net = f"198.18.{secrets.randbelow(256)}"
        first = 4 * secrets.randbelow(64)
        self.host = f"{net}.{first + 1}"
        near, far = f"{self._name}a", f"{self._name}b"
        _must("netns", "add", self._name)
        _must("link", "add", near, "type", "veth", "peer", "name", far, "netns", self._name)
        _must("address", "add", f"{self.host}/30", "dev", near)
        _must("link", "set", near, "up")
        _must("-n", self._name, "address", "add", f"{net}.{first + 2}/30", "dev", far)
        _must("-n", self._name, "link", "set", far, "up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make the sockets of this thread there."""
        with Path("/proc/thread-self/ns/net").open() as here, Path("/run/netns", self._name).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def cut(self) -> None:
        """Drop every packet from now on; neither side is informed."""
        _must("-n", self._name, "link", "set", f"{self._name}b", "down")

    def close(self) -> None:
        _ip("netns", "del", self._name)
        _ip("link", "del", f"{self._name}a")


def _name() -> str:
    return f"cs{secrets.token_hex(5)}"


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> int:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode


def _must(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
