"""Static files."""

import re

import pytest
from httpx import Client

from channelstream.site import assets


def test_every_asset_is_served_for_good(browser: Client) -> None:
    """Each file is there, immutable under a path that names the content, and typed for nosniff."""
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    files = assets().files()
    assert {
        "base.css",
        "admin/table.js",
        "demo/demo.js",
        "explorer/explorer.js",
        "client/channelstream.js",
    } <= files.keys()
    for name, file in files.items():
        answer = browser.get(f"{assets().url}/{name}")
        assert (answer.status_code, answer.content) == (200, file.read_bytes()), name
        assert answer.headers["content-type"].startswith(kinds[file.suffix])
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["swagger-ui.css", "swagger-ui-bundle.js"])
def test_swagger_ui_is_served_from_its_package(browser: Client, name: str) -> None:
    """The two files the explorer needs come from the installed package."""
    assert browser.get(f"{assets().url}/swagger-ui/{name}").status_code == 200


@pytest.mark.parametrize("path", ["swagger-ui/index.html", "missing.css", "..%2f..%2froutes.py", ""])
def test_nothing_else_is_served(browser: Client, path: str) -> None:
    """The package's own page, missing files and files outside are not found, and not kept."""
    answer = browser.get(f"{assets().url}/{path}")
    assert answer.status_code == 404
    assert "cache-control" not in answer.headers


def test_no_asset_names_another_server() -> None:
    """Our scripts and styles hold no address of elsewhere; the one name is that of a picture format."""
    for file in assets().files().values():
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text())
        assert set(found) <= {"http://www.w3.org"}, file
