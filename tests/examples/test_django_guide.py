"""The guide for Django: its files make a working site."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser import chromium_browser
from tests.examples.running import ROOT, is_open
from tests.waiting import eventually

from channelstream_client.testing.port import HeldPort

FENCE = re.compile(r"^```(?:python|html)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = ("mysite/push.py", "mysite/views.py", "mysite/urls.py", "templates/page.html", "templates/login.html")
SETTINGS = """
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
STATICFILES_DIRS = [BASE_DIR / "static"]
"""
USERS = """
from django.contrib.auth.models import User
for name in ("ann", "bob"):
    User.objects.create_user(name, password="password")
"""

pytestmark = pytest.mark.browser


def make_site(folder: Path) -> None:
    """Start a project, and add the files of the guide to it."""
    subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", str(folder)], check=True)
    for name in ("templates", "static"):
        (folder / name).mkdir()
    for name, text in zip(FILES, FENCE.findall((ROOT / "docs/django.md").read_text("utf-8")), strict=True):
        (folder / name).write_text(text, "utf-8")
    (folder / "static/channelstream.js").write_bytes((ROOT / "clients/js/channelstream.js").read_bytes())
    with (folder / "mysite/settings.py").open("a") as settings:
        settings.write(SETTINGS)
    for command in (["migrate", "--verbosity", "0"], ["shell", "--command", USERS]):
        subprocess.run(
            [sys.executable, "manage.py", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )


@pytest.fixture
def site(tmp_path: Path, start_server: Any) -> Iterator[str]:
    """The address of the site, which has a push server of its own."""
    server = start_server()
    make_site(tmp_path)
    environ = {"CHANNELSTREAM_URL": server.url, "CHANNELSTREAM_SECRET": server.secret}
    with HeldPort() as port:
        command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port.number}"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: is_open(port.number) or process.poll() is not None, "the site did not start")
            assert process.poll() is None, f"the site ended with {process.returncode}"
            yield f"http://127.0.0.1:{port.number}"
        finally:
            process.terminate()
            process.wait()


def sign_in(browser: Browser, address: str, name: str) -> Page:
    page = browser.new_context().new_page()
    page.goto(address)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("password")
    page.get_by_role("button", name="Sign in").click()
    return page


def post(page: Page, path: str) -> int:
    """Post to the site as the page does, with its session and its token; return the status."""
    return page.evaluate(
        """async (path) => {
          const headers = { "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value };
          return (await fetch(path, { method: "POST", headers, body: "{}" })).status;
        }""",
        path,
    )


def test_the_site_of_the_guide_works(site: str) -> None:
    """Both see who is there; a notification reaches its user only; without a session no connection is given."""
    with chromium_browser() as chromium:
        ann, bob = (sign_in(chromium, site, name) for name in ("ann", "bob"))
        for page in (ann, bob):
            expect(page.locator("#here")).to_have_text("ann, bob")
        assert post(ann, "/wave/bob") == 200
        expect(bob.get_by_role("listitem")).to_have_text(["ann waves to you"])
        assert post(bob, "/wave/ann") == 200
        expect(ann.get_by_role("listitem")).to_have_text(["bob waves to you"])
        ann.context.clear_cookies(name="sessionid")
        assert post(ann, "/connection") == 403
