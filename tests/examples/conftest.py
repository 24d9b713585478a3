"""The browser in which examples are played."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from tests.browser import chromium_browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as browser:
        yield browser
