"""Examples as processes, and their pages in a browser."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from tests.waiting import eventually

from channelstream_client.testing.port import HeldPort

ROOT = Path(__file__).parents[2]


@contextmanager
def running(name: str, url: str, secret: str, **more: str) -> Iterator[str]:
    """Run an example as its README says; yield the address of its page.

    Args:
        url: the push server.
        more: further variables of its environment.
    """
    if name == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed.")
    environ = {"CHANNELSTREAM_URL": url, "CHANNELSTREAM_SECRET": secret, **more}
    with HeldPort() as port:
        process = subprocess.Popen(
            ["scripts/example.sh", name],
            cwd=ROOT, env=os.environ | environ | {"PORT": str(port.number)}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(
                lambda: is_open(port.number) or process.poll() is not None, "the example did not start"
            )
            assert process.poll() is None, f"the example ended with {process.returncode}"
            yield f"http://127.0.0.1:{port.number}"
        finally:
            process.terminate()
            process.wait()


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def sign_in(browser: Browser | BrowserContext, address: str, name: str) -> Page:
    """Sign in on a page of a context, or of a new one."""
    context = browser if isinstance(browser, BrowserContext) else browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Sign in").click()
    return page
