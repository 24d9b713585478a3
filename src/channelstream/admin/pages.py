"""The admin pages. Their scripts fetch the data from `data`."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from channelstream.admin.panel import DETAILS
from channelstream.admin.tables import CONNECTIONS_OF, TABLES
from channelstream.pages.html import Renderer
from channelstream.pages.row import Endpoint, PageRight, Row


class Admin:
    """`/admin` and the pages below it. Without credentials they redirect to the sign-in form."""

    def __init__(self, renderer: Renderer, has_untrusted_proxy: Callable[[], bool]) -> None:
        """Create the pages.

        Args:
            has_untrusted_proxy: whether a proxy on this machine that is not in `trusted_proxies` was seen.
        """
        self._renderer = renderer
        self._has_untrusted_proxy = has_untrusted_proxy

    def rows(self) -> list[Row]:
        pages = {
            "/admin": self._page(
                "admin.html", {"here": "admin", "has_untrusted_proxy": self._has_untrusted_proxy}
            ),
            "/admin/acts": self._page("admin_acts.html", {"here": "acts"}),
        }
        for name, table in TABLES.items():
            pages[f"/admin/{name}"] = self._page("admin_table.html", {"here": name, "table": table})
        for kind, detail in DETAILS.items():
            context = {"here": detail.table, "kind": kind, "connection_columns": CONNECTIONS_OF[kind]}
            pages[f"/admin/{kind}"] = self._page(f"admin_{kind}.html", context)
        return [Row(path, page, PageRight.LOOK) for path, page in pages.items()]

    def _page(self, template: str, context: Mapping[str, Any]) -> Endpoint:
        async def page(request: Request) -> Response:
            return await self._renderer.page(request, template, context)

        return page
