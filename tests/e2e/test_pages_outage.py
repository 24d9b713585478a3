"""The admin pages, in a browser, of a node whose engine is out of reach."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.signing_in import sign_in
from tests.redis_server import running_redis

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("path", ["channels", "channel?name=outage", "acts", "webhooks"])
def test_a_page_that_cannot_be_read_again_is_not_called_live(
    tmp_path: Path, start_server: Callable[..., Any], open_page: Callable[..., Page], watch: Any, path: str
) -> None:
    """What it shows is from before; it is live again when the engine is back."""
    watch.expected = "503"
    with running_redis(tmp_path) as redis:
        node = start_server("--engine", redis.address, "--engine-timeout-s", "1")
        watch.servers.add(urlsplit(node.url).netloc)
        node.connect("outage-ann", "outage")
        page = sign_in(open_page("/admin", base=node.url), node.admin_secret)
        page.wait_for_url("**/admin")
        page.goto(f"/admin/{path}")
        freshness = page.locator("#freshness")
        expect(freshness).to_have_text("Live")
        redis.signal(signal.SIGSTOP)
        expect(freshness).to_have_text("Not updated, retrying")
        expect(page.get_by_role("alert").first).to_contain_text("Redis")
        redis.signal(signal.SIGCONT)
        expect(freshness).to_have_text("Live")
        expect(page.locator("#fault")).to_be_hidden()
        node.stop()
