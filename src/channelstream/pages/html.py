"""Rendering of pages: the template environment, answers, and the security headers."""

import asyncio
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from channelstream import __version__
from channelstream.pages.caller import caller_or_none

TEMPLATES = Path(__file__).parent / "templates"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
"""Everything from this server and nothing inline (W3C CSP Level 3: 'self' covers this host's WebSocket)."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def root(request: Request) -> str:
    """Return the path prefix that a proxy has stripped, "" or "/prefix". Every link starts with it."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def redirect(request: Request, path: str) -> Response:
    """Answer 302, as 0.7 did. `path` is a path of this server and begins with a slash."""
    return RedirectResponse(root(request) + path, status_code=302, headers=dict(HEADERS))


def json_response(document: Any) -> Response:
    return Response(msgspec.json.encode(document), 200, dict(HEADERS), "application/json")


@cache
def _sources(*folders: Path) -> Mapping[str, tuple[str, str, None]]:
    """Return the text of each template by its name, with its path, which errors name.

    They are read at the start: pages must not be those of another version that was installed meanwhile.
    """
    files = (file for folder in folders for file in folder.glob("*.html"))
    return {file.name: (file.read_text(encoding="utf-8"), str(file), None) for file in files}


class Renderer:
    """Renders templates, and adds the security headers.

    Args:
        folders: where the templates are; all pages share those of this package.
        static_url: path of the assets, without the proxy's prefix.
        demo: whether links to the demo are shown.
        keeps_sign_ins: whether a sign-in outlives a restart.
        app_id: of the further application that all pages show; empty for the default one.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        static_url: str,
        demo: bool,
        keeps_sign_ins: bool = True,
        app_id: str = "",
    ) -> None:
        self._environment = Environment(
            loader=FunctionLoader(_sources(TEMPLATES, *folders).get),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._static_url = static_url
        self._environment.globals.update(
            version=__version__, demo=demo, keeps_sign_ins=keeps_sign_ins, app_id=app_id
        )
        self._compiled: set[str] = set()

    async def page(
        self,
        request: Request,
        template: str,
        context: Mapping[str, Any] | None = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Render `template`. `headers` replace headers of `HEADERS`, or are added to them."""
        prefix = root(request)
        caller = caller_or_none(request)
        values = {
            "root": prefix,
            "static": prefix + self._static_url,
            "caller": caller,
            "may_change": caller is not None and caller.may_change,
            **(context or {}),
        }
        if template in self._compiled:
            text = self._render(template, values)
        else:
            # In a thread: to compile it with those that it extends takes 0.1 s, and would hold up every stream.
            text = await asyncio.to_thread(self._render, template, values)
            self._compiled.add(template)
        return HTMLResponse(text, status, {**HEADERS, **(headers or {})})

    def _render(self, template: str, values: Mapping[str, Any]) -> str:
        return self._environment.get_template(template).render(values)
