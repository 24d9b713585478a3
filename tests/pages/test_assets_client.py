"""The JavaScript client at a URL for applications."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from tests.http_client import http

from channelstream.pages import assets


def test_applications_get_the_client_of_this_version(server: Any) -> None:
    """From any origin, as a module; while the version is a development one, browsers ask whether it is still the same."""
    answer = http.get(f"{server.url}/static/client/{assets.version('channelstream')}/channelstream.js")
    assert answer.text == assets.CLIENT.read_text()
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_another_version_is_not_there(server: Any) -> None:
    """A page that names one fails visibly instead of running something else."""
    assert http.get(f"{server.url}/static/client/0.0.1/channelstream.js").status_code == 404


def test_a_released_version_is_kept_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file never changes."""
    monkeypatch.setattr(assets, "version", lambda name: "1.2.3")
    assert assets.client_url() == "/static/client/1.2.3/channelstream.js"
    answer = asyncio.run(assets._client(Request({"type": "http", "headers": []})))
    assert "immutable" in answer.headers["cache-control"]
