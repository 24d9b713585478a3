"""The admin pages. Their scripts fetch the data from `admin_data`."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.pages.access import Endpoint, Gate
from channelstream.pages.html import HEADERS, Renderer, redirect

TABLES: Mapping[str, Mapping[str, Any]] = {
    "channels": {
        "title": "Channels",
        "search": "Find a channel",
        "columns": (
            ("name", "Channel"),
            ("users", "Users"),
            ("connections", "Connections"),
            ("history", "History"),
            ("log", "Log"),
            ("", "Settings"),
            ("last_active", "Last active"),
        ),
    },
    "users": {
        "title": "Users",
        "search": "Find a user",
        "columns": (
            ("name", "User"),
            ("connections", "Connections"),
            ("channels", "Channels"),
            ("", "State"),
            ("last_active", "Last active"),
        ),
    },
    "connections": {
        "title": "Connections",
        "search": "Find a connection or a user",
        "columns": (
            ("id", "Connection"),
            ("user", "User"),
            ("state", "State"),
            ("transport", "Transport"),
            ("channels", "Channels"),
            ("waiting", "Bytes waiting"),
        ),
    },
    "nodes": {
        "title": "Nodes",
        "search": "Find a node",
        "columns": (
            ("label", "Node"),
            ("connections", "Connections"),
            ("", "Lease"),
            ("last_beat", "Last heartbeat"),
            ("", "Id"),
        ),
    },
}
"""The pages with tables. A column is the name to sort by (empty: not sortable) and the heading."""
NUMBERS = frozenset({"users", "connections", "channels", "history", "log", "waiting"})
"""Columns with numbers, which are aligned to the right."""
DETAILS = {"channel": "channels", "user": "users", "connection": "connections"}
"""The detail pages, each with the table that it belongs to."""


class Admin:
    """`/admin` and the pages below it. Without credentials they redirect to the sign-in form."""

    def __init__(self, gate: Gate, renderer: Renderer) -> None:
        self._gate = gate
        self._renderer = renderer

    def routes(self) -> list[BaseRoute]:
        pages = {"/admin": self._page("admin.html", {"here": "admin"})}
        for name, table in TABLES.items():
            context = {"here": name, "kind": name, "numbers": NUMBERS, **table}
            pages[f"/admin/{name}"] = self._page("admin_table.html", context)
        for name, table_name in DETAILS.items():
            pages[f"/admin/{name}"] = self._page(f"admin_{name}.html", {"here": table_name, "kind": name})
        return [
            Route(path, self._gate.guarded(page, to_sign_in), methods=["GET"]) for path, page in pages.items()
        ]

    def _page(self, template: str, context: Mapping[str, Any]) -> Endpoint:
        async def page(request: Request) -> Response:
            return await self._renderer.page(request, template, context)

        return page


def to_sign_in(request: Request) -> Response:
    return redirect(request, "/admin/sign_in")


def json_response(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, dict(HEADERS), "application/json")
