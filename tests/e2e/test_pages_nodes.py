"""The admin pages of a service of several nodes, in a browser."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.signing_in import sign_in

pytestmark = [pytest.mark.browser, pytest.mark.nodes(3)]


@pytest.fixture
def open_at(open_page: Callable[..., Page], watch: Any) -> Callable[[Any], Page]:
    """Sign in at one of the nodes."""

    def open_at(node: Any) -> Page:
        watch.servers.add(urlsplit(node.url).netloc)
        return sign_in(open_page("/admin", base=node.url), node.admin_secret)

    return open_at


def test_the_overview_lists_all_nodes(open_at: Callable[[Any], Page], server: Any) -> None:
    """With which of them answers."""
    page = open_at(server.any)
    expect(page.locator("#nodes tbody tr")).to_have_count(len(server.nodes))
    expect(page.locator("#nodes tbody tr").first).to_contain_text("answers this page")
    expect(page.get_by_text("serves", exact=True)).to_have_count(len(server.nodes) - 1)
    expect(page.locator("#answered")).to_contain_text("answered by")
    expect(page.locator("#fault")).to_be_hidden()
