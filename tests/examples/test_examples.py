"""The examples, started as their README says and used in two browsers."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser import chromium_browser
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
NAMES = ("django", "fastapi", "flask", "pyramid", "node")
PATIENCE_S = 20

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as browser:
        yield browser


@pytest.fixture(params=NAMES)
def example(request: pytest.FixtureRequest, server: Any) -> Iterator[str]:
    """The address of a running example."""
    if request.param == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed.")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {"CHANNELSTREAM_URL": server.url, "CHANNELSTREAM_SECRET": server.secret, "PORT": str(port)}
    process = subprocess.Popen(
        ["scripts/example.sh", request.param], cwd=ROOT, env=os.environ | environ, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_open(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_until_open(port: int) -> None:
    def is_open() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    eventually(is_open, "the example did not start")


def sign_in(browser: Browser, address: str, name: str) -> Page:
    page = browser.new_context().new_page()
    page.goto(address)
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Message")).to_be_visible()
    return page


def test_what_one_says_the_other_hears(chromium: Browser, example: str) -> None:
    """Two people sign in; what one sends is on both pages."""
    ann, bob = sign_in(chromium, example, "Ann"), sign_in(chromium, example, "Bob")
    ann.get_by_label("Message").fill("Hello, Bob")
    ann.get_by_role("button", name="Send").click()
    for page in (ann, bob):
        expect(page.get_by_role("listitem")).to_have_text(["Ann: Hello, Bob"])
    for page in (ann, bob):
        page.context.close()
