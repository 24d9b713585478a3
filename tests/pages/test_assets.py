"""Static files."""

import re

import pytest
from httpx import Client

from channelstream.pages.assets import STATIC, static_url


def test_every_asset_is_served_for_good(browser: Client) -> None:
    """Each file is there, immutable under a path that names the content, and typed for nosniff."""
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for file in (path for path in STATIC.rglob("*") if path.is_file()):
        answer = browser.get(f"{static_url()}/{file.relative_to(STATIC)}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kinds[file.suffix])
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["swagger-ui.css", "swagger-ui-bundle.js"])
def test_swagger_ui_is_served_from_its_package(browser: Client, name: str) -> None:
    """The two files the explorer needs come from the installed package."""
    assert browser.get(f"{static_url()}/swagger-ui/{name}").status_code == 200


@pytest.mark.parametrize("path", ["swagger-ui/index.html", "missing.css", "..%2f..%2froutes.py", ""])
def test_nothing_else_is_served(browser: Client, path: str) -> None:
    """The package's own page, missing files and files outside are not found, and not kept."""
    answer = browser.get(f"{static_url()}/{path}")
    assert answer.status_code == 404
    assert "cache-control" not in answer.headers


def test_no_asset_names_another_server() -> None:
    """Our scripts and styles hold no address of elsewhere; the one name is that of a picture format."""
    for file in (path for path in STATIC.rglob("*") if path.is_file()):
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text())
        assert set(found) <= {"http://www.w3.org"}, file
