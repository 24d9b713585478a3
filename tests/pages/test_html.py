"""Rendering of pages."""

import asyncio
from pathlib import Path

from starlette.requests import Request

from channelstream.pages.html import Renderer


def test_pages_are_those_of_the_version_that_runs(tmp_path: Path) -> None:
    """Another one may be installed before a page is asked for the first time."""
    template = tmp_path / "page.html"
    template.write_text("this version")
    renderer = Renderer([tmp_path], "/static", demo=False)
    template.write_text("{{ a_value_of_another_version }}")
    page = asyncio.run(renderer.page(Request({"type": "http", "headers": []}), "page.html"))
    assert page.body == b"this version"


def test_what_an_editor_leaves_beside_templates_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".page.html.swp").write_bytes(b"\xff")
    Renderer([tmp_path], "/static", demo=False)
