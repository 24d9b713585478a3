"""What the admin pages of a running server are answered."""

import json
from typing import Any

from tests.http_client import http


def data(server: Any, name: str, /, **query: Any) -> dict[str, Any]:
    """Return `/admin/data/NAME`."""
    found: dict[str, Any] = server.request("GET", f"/admin/data/{name}", params=query).json()
    return found


def rows(server: Any, name: str, /, **query: Any) -> list[Any]:
    """Return the rows of a table."""
    found: list[Any] = data(server, name, **query)["rows"]
    return found


def watched(server: Any) -> dict[str, Any]:
    """Return what the overview is sent first.

    It is empty while the places of pages that have just left are not free again.
    """
    node = server.any
    with http.stream("GET", f"{node.url}/admin/live", headers=node.sign("/admin/live")) as live:
        lines = (line for line in live.iter_lines() if line.startswith("data: "))
        event: dict[str, Any] = json.loads(next(lines, "data: {}").removeprefix("data: "))
    return event


def figures(server: Any) -> dict[str, Any]:
    """Return the sums of all nodes that the overview is sent first."""
    found: dict[str, Any] = watched(server)["figures"]
    return found
