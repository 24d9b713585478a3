"""The examples, started as their README says and used in two browsers."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, expect
from tests.conftest import launch
from tests.examples.running import ROOT, running, sign_in
from tests.http_client import http
from tests.line import Line

from channelstream_client.testing.port import HeldPort

REFUSED = re.compile(
    r"Not connected, trying again: no connection: the push server (refuses this|answered 401)"
)
NAMES = ("django", "fastapi", "flask", "pyramid", "node")

pytestmark = pytest.mark.browser


@dataclass(frozen=True)
class Example:
    """A running example.

    Attributes:
        address: of its pages.
        line: by which it and its pages reach the push server.
    """

    address: str
    line: Line


@pytest.fixture(scope="module", params=NAMES)
def example(request: pytest.FixtureRequest, one_node: Any) -> Iterator[Example]:
    """An example, started once for the tests of all."""
    line = Line(one_node.port)
    with running(request.param, line.url, one_node.secret) as address:
        yield Example(address, line)
    line.close()


@pytest.fixture(scope="module")
def foreign() -> Iterator[Any]:
    """A push server with a secret that no example has."""
    server = launch("--secret", "of nobody")
    yield server
    server.stop()


def test_a_chat_reaches_both_pages_in_order(chromium: Browser, example: Example) -> None:
    """Messages appear on both pages, in order; a later visitor sees members and history."""
    text = f"Hello from {uuid4()}"  # The chat is that of all examples, and has a history.
    ann = sign_in(chromium, example.address, "Ann")
    expect(ann.get_by_role("status")).to_have_text("Connected.")
    ann.get_by_label("Message").fill(text)
    ann.get_by_role("button", name="Send").click()
    expect(ann.get_by_role("listitem").last).to_have_text(f"Ann: {text}")
    bob = sign_in(chromium, example.address, "Bob")
    expect(bob.get_by_role("listitem").last).to_have_text(f"Ann: {text}")
    for page in (ann, bob):
        expect(page.locator("#here")).to_have_text("Ann, Bob")
    bob.context.close()
    ann.context.close()


def test_a_refusal_is_on_the_page(chromium: Browser, example: Example, one_node: Any, foreign: Any) -> None:
    """Where the push server refuses the application, the page reports it and tries again."""
    example.line.lead_to(foreign.port)
    try:
        page = sign_in(chromium, example.address, "Ann")
        expect(page.get_by_role("status")).to_contain_text(REFUSED)
        page.context.close()
    finally:
        example.line.lead_to(one_node.port)


def test_a_stopped_server_is_on_the_page(chromium: Browser, start_server: Any, port: str) -> None:
    """While the push server is away the page reports it, keeps unsent messages, and sends them later."""
    first = start_server("-p", port)
    with running("flask", first.url, first.secret) as address:
        page = sign_in(chromium, address, "Ann")
        expect(page.get_by_role("status")).to_have_text("Connected.")
        first.stop()
        expect(page.get_by_role("status")).to_contain_text("Not connected, trying again")
        page.get_by_label("Message").fill("Hello")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("alert")).to_contain_text("Not sent: the push server cannot be reached: ")
        start_server("-p", port)
        expect(page.get_by_role("status")).to_contain_text("Connected.")
        expect(page.get_by_label("Message")).to_have_value("Hello")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("listitem").last).to_have_text("Ann: Hello")
        page.context.close()


def test_all_examples_tell_a_refusal_from_a_server_out_of_reach() -> None:
    """In the same words; flask is tested above."""
    explanations = {
        re.search(r"def explained\(.*?\n\n", (ROOT / f"examples/{name}/app.py").read_text(), re.DOTALL)[0]  # type: ignore[index]
        for name in NAMES
        if name != "node"
    }
    assert len(explanations) == 1


def test_a_port_in_use_is_reported_in_one_line(server: Any) -> None:
    """With the remedy, before anything starts, and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {"CHANNELSTREAM_URL": server.url, "CHANNELSTREAM_SECRET": server.secret, "PORT": port}
        ended = subprocess.run(
            ["scripts/example.sh", "flask"], cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1:] == [
        f"example: port {port} is in use: take another one, as in PORT=5001 make example NAME=flask"
    ]
    assert "Traceback" not in ended.stderr


def test_a_server_that_runs_already_is_found(server: Any, foreign: Any) -> None:
    """One with another secret is not taken for it, nor a port at which nobody answers."""

    def is_found(url: str) -> bool:
        asked = subprocess.run(
            [sys.executable, "scripts/is_served.py", url], cwd=ROOT, capture_output=True, text=True, check=False,
            env=os.environ | {"CHANNELSTREAM_SECRET": server.secret},
        )  # fmt: skip
        assert asked.stderr == ""
        return asked.returncode == 0

    assert is_found(server.url)
    assert not is_found(foreign.url)
    with HeldPort() as nobody:
        assert not is_found(f"http://127.0.0.1:{nobody.number}")


@pytest.mark.parametrize("example", ["django"], indirect=True)
def test_django_protects_its_calls(example: Example) -> None:
    """A page of another site, which has no token, is refused by Django."""
    assert http.post(f"{example.address}/sign-in", json={"name": "Ann"}).status_code == 403
