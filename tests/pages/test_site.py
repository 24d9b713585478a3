"""The landing page, when the demo is served, and what the first request loads."""

import asyncio
import threading
from typing import Any

import httpx
import pytest
from httpx import Client
from jinja2 import Environment

from channelstream.call_signing import CallSigner
from channelstream.config import Settings
from channelstream.demo.push_server import PushServer


def test_landing_page_links_the_pages(browser: Client) -> None:
    """The first page leads to demo, admin and explorer."""
    text = browser.get("/").text
    assert all(f'href="{path}"' in text for path in ("/demo", "/admin", "/api-explorer"))


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        (Settings(host="127.0.0.1"), 200),
        (Settings(host="0.0.0.0"), 404),
        (Settings(host="0.0.0.0", demo=True), 200),
        (Settings(demo=False), 404),
    ],
)
def test_demo_is_served_where_it_should(browser: Client, status: int) -> None:
    """On by default only on loopback; the option decides otherwise, and the landing page agrees."""
    assert browser.get("/demo").status_code == status
    assert ('href="/demo"' in browser.get("/").text) is (status == 200)


def test_templates_are_compiled_once_outside_of_the_event_loop(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as many loop turns."""
    threads: list[threading.Thread] = []
    compile_ = Environment.compile

    def recorded(self: Environment, *arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return compile_(self, *arguments, **options)

    monkeypatch.setattr(Environment, "compile", recorded)
    assert [browser.get(path).status_code for path in ("/", "/admin/sign_in")] == [200] * 2
    compiled = len(threads)
    assert compiled
    assert browser.get("/").status_code == 200
    assert len(threads) == compiled
    assert threading.main_thread() not in threads


def test_the_client_of_the_demo_is_made_outside_of_the_event_loop() -> None:
    """Once: it imports a library."""
    threads: list[threading.Thread] = []

    def connect() -> httpx.AsyncClient:
        threads.append(threading.current_thread())
        answers = httpx.MockTransport(lambda _: httpx.Response(200, json=True))
        return httpx.AsyncClient(transport=answers, base_url="http://push.test")

    async def call_twice_at_once() -> None:
        server = PushServer(connect, CallSigner(lambda: "secret", is_old=False))
        calls = (server.call("POST", "/disconnect", {}) for _ in range(2))
        assert await asyncio.gather(*calls) == [True, True]

    asyncio.run(call_twice_at_once())
    assert len(threads) == 1
    assert threading.main_thread() not in threads
