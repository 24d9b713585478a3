"""Static files."""

import re

import pytest
from httpx import Client

from channelstream.pages.encodings import accepts_gzip
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


def test_assets_are_compressed_for_browsers_that_accept_it(browser: Client) -> None:
    """Caches keep both forms apart, and a browser that has one is answered 304; a proxy may make tags weak."""
    url = f"{assets().url}/swagger-ui/swagger-ui-bundle.js"
    packed = browser.get(url, headers={"accept-encoding": "br, gzip"})
    plain = browser.get(url, headers={"accept-encoding": "gzip;q=0, identity"})
    assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < 0.3 * len(plain.content)
    for answer, accepted, weak in ((packed, "gzip", ""), (plain, "identity", ""), (packed, "gzip", "W/")):
        assert answer.headers["vary"] == "Accept-Encoding"
        known = f'"x", {weak}{answer.headers["etag"]}'
        again = browser.get(url, headers={"accept-encoding": accepted, "if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
    assert packed.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0, *", False),
        ("*", True),
        ("br;q=1, *;q=0", False),
        ("gzip;q=high", False),
        (";;,,", False),
    ],
)
def test_which_browsers_accept_gzip(header: str, accepted: bool) -> None:
    """By the weights of RFC 9110; what cannot be read is not accepted."""
    assert accepts_gzip(header) is accepted


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
