"""The page of webhooks, in a browser."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.admin.test_webhooks import give_up, options
from tests.conftest import READER_SECRET, RunningServer, launch
from tests.e2e.accessibility import violations
from tests.e2e.signing_in import sign_in
from tests.waiting import eventually
from tests.webhook_receiver import KEY, WebhookReceiver, webhook_receiver

from channelstream.apps.keys import DEFAULT
from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelOccupied

pytestmark = pytest.mark.browser


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as running:
        yield running


@pytest.fixture
def failing(receiver: WebhookReceiver, tmp_path: Path, watch: Any) -> Iterator[RunningServer]:
    """A server with two dead letters, and a receiver that does not answer beside one that does."""
    path = tmp_path / "state.db"
    kept = Receiver(DEFAULT, receiver.url, frozenset(("occupied",)), (KEY,))
    letters = [(kept, ChannelOccupied(id=each, at_ms=1000, channel=f"<b>{each}")) for each in ("a", "b")]
    with ThreadPoolExecutor(1) as pool:  # The thread of the browser has an event loop.
        pool.submit(give_up, path, *letters).result()
    server = launch(
        "--engine", f"sqlite:///{path}", **options(receiver, f"{receiver.url} http://127.0.0.1:9/dead")
    )
    watch.servers.add(server.url.partition("//")[2])
    server.connect("ann", "news")
    yield server
    server.stop()


@pytest.fixture
def refused(receiver: WebhookReceiver, watch: Any) -> Iterator[RunningServer]:
    """A server whose receiver refuses an event."""
    receiver.refuses = frozenset((b'"channel.occupied"',))
    server = launch(**options(receiver))
    watch.servers.add(server.url.partition("//")[2])
    server.connect("ann", "news")
    yield server
    server.stop()


def test_what_was_given_up_is_sent_again(
    failing: RunningServer, receiver: WebhookReceiver, open_page: Callable[..., Page]
) -> None:
    """After a question; the page shows how each receiver does, and who may only look has no button."""
    page = sign_in(open_page("/admin/webhooks", failing.url), failing.admin_secret)
    rows = page.locator("#receivers tbody tr")
    expect(rows.nth(0)).to_contain_text(receiver.url)
    expect(rows.nth(1)).to_contain_text("Failing since")
    expect(rows.nth(1)).to_contain_text("no answer: nothing listens at its address")
    assert violations(page) == []
    letters = page.locator("#letters tbody tr")
    expect(letters.nth(0)).to_contain_text("channel.occupied <b>b")
    letters.nth(1).get_by_role("button", name="Send again").click()
    question = page.get_by_role("dialog")
    # As on other pages, and not as the browser draws it.
    expect(question).to_have_css("border-radius", "14px")
    question.get_by_role("button", name="Send again").click()
    expect(letters.nth(1)).to_contain_text("sent ")
    expect(page.locator("#letters-note")).to_have_text("1 event will be sent.")
    eventually(lambda: "a" in [each["id"] for each in receiver.events], "it is not sent")
    reader = sign_in(open_page("/admin/webhooks", failing.url), READER_SECRET, "reader")
    expect(reader.locator("#letters tbody tr").nth(0)).to_contain_text("status 503")
    expect(reader.locator("#letters").get_by_role("button")).to_have_count(0)


def test_what_is_refused_is_given_up(refused: RunningServer, open_page: Callable[..., Page]) -> None:
    """After a question; who may only look has no button."""
    reader = sign_in(open_page("/admin/webhooks", refused.url), READER_SECRET, "reader")
    expect(reader.locator("#receivers tbody")).to_contain_text("1 event refused")
    expect(reader.locator("#receivers").get_by_role("button")).to_have_count(0)
    page = sign_in(open_page("/admin/webhooks", refused.url), refused.admin_secret)
    expect(page.locator("#refused tbody")).to_contain_text("channel.occupied news")
    page.locator("#receivers").get_by_role("button", name="Give up").click()
    assert violations(page) == []
    page.get_by_role("dialog").get_by_role("button", name="Give up").click()
    expect(page.locator("#letters-note")).to_have_text("1 event will be given up.")
    expect(page.locator("#letters tbody tr").nth(0)).to_contain_text("refused, and given up by an admin")
    expect(page.locator("#receivers tbody")).not_to_contain_text("refused")
    expect(page.locator("#refused-panel")).to_be_hidden()
