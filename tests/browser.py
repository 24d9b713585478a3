"""Chromium as the tests drive it: headless, and with requests to the server only."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.waiting import PATIENCE_S

PROGRAMS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
"""The first on the PATH is used. The shell draws no window of its own, which halves the CPU time of the tests."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 1000 * PATIENCE_S
"""How long anything in a page may take."""

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """Start the Chromium of this machine; without one the test is skipped."""
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        pytest.skip(f"No Chromium here: none of {', '.join(PROGRAMS)} is on the PATH.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
