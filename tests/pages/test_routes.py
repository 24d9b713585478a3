"""The landing page, and when the demo is served."""

import pytest
from httpx import Client

from channelstream.config import Settings


def test_landing_page_links_the_pages(browser: Client) -> None:
    """The first page leads to demo, admin and explorer."""
    text = browser.get("/").text
    assert all(f'href="{path}"' in text for path in ("/demo", "/admin", "/api-explorer"))


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        (Settings(host="127.0.0.1"), 200),
        (Settings(host="0.0.0.0"), 404),
        (Settings(host="0.0.0.0", demo=True), 200),
        (Settings(demo=False), 404),
    ],
)
def test_demo_is_served_where_it_should(browser: Client, status: int) -> None:
    """On by default only on loopback; the option decides otherwise, and the landing page agrees."""
    assert browser.get("/demo").status_code == status
    assert ('href="/demo"' in browser.get("/").text) is (status == 200)
