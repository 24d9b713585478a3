"""Nodes that share an engine, spoken to as if they were one server: each request and each stream lands on a random one."""

import os
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.conftest import RunningServer

SEED = os.environ.get("FLEET_SEED", "1")
"""Of the choice of nodes, together with a test's name; another one makes every test land elsewhere."""


class Fleet:
    """The interface of a `RunningServer`, of which any node serves any part.

    `url`, `ws_url` and `port` name another node each time they are read, so a test that keeps one of them
    stays at its node.

    Attributes:
        nodes: all of them.
    """

    def __init__(self, nodes: "Sequence[RunningServer]") -> None:
        self.nodes = nodes
        self.secret, self.admin_secret = nodes[0].secret, nodes[0].admin_secret
        self.reader_secret = nodes[0].reader_secret
        self.begin("")

    def begin(self, test: str) -> None:
        """Choose nodes for a test of this name: the same ones whenever it runs, alone or among others."""
        self._random = Random(f"{SEED} {test}")

    @property
    def any(self) -> "RunningServer":
        return self._random.choice(self.nodes)

    @property
    def port(self) -> int:
        return self.any.port

    @property
    def url(self) -> str:
        return self.any.url

    @property
    def ws_url(self) -> str:
        return self.any.ws_url

    def sign(self, path: str) -> dict[str, str]:
        return self.any.sign(path)

    def request(self, method: str, path: str, payload: Any = None, **options: Any) -> httpx.Response:
        return self.any.request(method, path, payload, **options)

    def post(self, path: str, payload: Any = None, **options: Any) -> Any:
        return self.any.post(path, payload, **options)

    def connect(self, user: str, *channels: str, **more: Any) -> str:
        return self.any.connect(user, *channels, **more)

    def log(self) -> str:
        """The log lines of all nodes since the last read of this property."""
        return "".join(node.log() for node in self.nodes)

    def stop(self) -> tuple[int, str]:
        """End the nodes as Ctrl-C does; return the worst exit code and the rest of their logs."""
        ended = [node.stop() for node in self.nodes]
        return max(abs(code) for code, _ in ended), "".join(log for _, log in ended)
