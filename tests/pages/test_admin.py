"""The admin panel's routes."""

import pytest
from httpx import Client

SIGNED = {"x-channelstream-secret": "signed"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_numbers_are_the_document(browser: Client, method: str) -> None:
    """admin.json answers what the panel says, to GET and POST, and is never kept."""
    answer = browser.request(method, "/admin/admin.json", headers=SIGNED)
    assert answer.json() == {"total_connections": 3, "uptime": "0:00:01"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_debug_is_the_same_document(browser: Client) -> None:
    """/admin/debug of the second generation answers the same numbers."""
    assert browser.get("/admin/debug", headers=SIGNED).json()["total_connections"] == 3


def test_the_page_is_fenced_in(browser: Client) -> None:
    """No framing, no sniffing, nothing inline, nothing from elsewhere, nothing kept."""
    headers = browser.get("/admin", headers=SIGNED).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
