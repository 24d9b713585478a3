"""The example with tokens, whose pages act by themselves, in two browsers."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect
from tests.conftest import RunningServer, launch
from tests.examples.running import running, sign_in
from tests.token_client import SECRET

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = launch("-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="600")
    running.secret = SECRET
    yield running
    running.stop()


@pytest.fixture(scope="module")
def address(server: Any) -> Iterator[str]:
    # The client asks for the next token when half of this time is over.
    with running("tokens", server.url, SECRET, TOKEN_LIFE_S="4") as address:
        yield address


def test_a_chat_of_two_rooms_works(chromium: Browser, address: str) -> None:
    """Members, messages and the history of each room; a private message reaches its user in any room."""
    text = f"Hello from {uuid4()}"
    ann, bob = (sign_in(chromium, address, name) for name in ("Ann", "Bob"))
    for page in (ann, bob):
        expect(page.get_by_role("status")).to_have_text("Connected.")
        expect(page.locator("#here")).to_have_text("Ann, Bob")
    ann.get_by_label("Message").fill(text)
    ann.get_by_role("button", name="Send").click()
    for page in (ann, bob):
        expect(page.get_by_role("listitem")).to_have_text([f"Ann: {text}"])
    bob.get_by_label("Room").select_option("Kitchen")
    expect(bob.locator("#here")).to_have_text("Bob")
    expect(ann.locator("#here")).to_have_text("Ann")
    expect(bob.get_by_role("listitem")).to_have_count(0)
    ann.get_by_label("Message").fill("Psst")
    ann.get_by_label("To").fill("Bob")
    ann.get_by_role("button", name="Send").click()
    expect(bob.get_by_role("listitem")).to_have_text(["Ann (in private): Psst"])
    bob.get_by_label("Room").select_option("Garden")
    expect(bob.get_by_role("listitem")).to_have_text([f"Ann: {text}"])
    for page in (ann, bob):
        expect(page.locator("#here")).to_have_text("Ann, Bob")
        expect(page.get_by_role("alert")).to_be_empty()
        page.context.close()


@contextmanager
def interrupted(
    chromium: Browser, address: str, name: str, on_command: Callable[[str], None], on_line: Callable[[], None]
) -> Iterator[tuple[Page, list[WebSocketRoute]]]:
    """Sign somebody in, and yield the page with its WebSockets so far.

    Args:
        on_command: called with each text of the page before the server gets it.
        on_line: called before each WebSocket opens.
    """
    lines: list[WebSocketRoute] = []

    def interrupt(line: WebSocketRoute) -> None:
        on_line()
        lines.append(line)
        to_server = line.connect_to_server()

        def pass_on(command: str | bytes) -> None:
            on_command(str(command))
            to_server.send(command)

        line.on_message(pass_on)

    with chromium.new_context() as context:
        context.route_web_socket(re.compile("/ws"), interrupt)
        page = sign_in(context, address, name)
        expect(page.locator("#here")).to_contain_text(name)
        yield page, lines


def test_the_lines_are_in_the_order_of_the_room(chromium: Browser, address: str, server: Any) -> None:
    """Also what is said while a page enters: here before each command that names the room."""
    server.connect("Eve", "room.kitchen")
    texts: list[str] = []

    def say(command: str) -> None:
        if '"channels":["room.kitchen"]' in command:
            texts.append(f"Text {len(texts)}")
            message = {"user": "Eve", "channel": "room.kitchen", "message": {"text": texts[-1]}}
            server.post("/message", message)

    with interrupted(chromium, address, "Dan", say, lambda: None) as (page, _):
        page.get_by_label("Room").select_option("Kitchen")
        expect(page.locator("#here")).to_have_text("Dan, Eve")
        assert len(texts) > 1
        expect(page.get_by_role("listitem")).to_have_text([f"Eve: {text}" for text in texts])


def test_lines_that_were_lost_are_in_their_order(chromium: Browser, address: str, server: Any) -> None:
    """They come with the history, here after a newer line."""
    opened = 0

    def say(text: str) -> None:
        server.post("/message", {"user": "Eve", "channel": "room.garden", "message": {"text": text}})

    def say_before_a_line() -> None:
        nonlocal opened
        for text in ("Lost", "Lost, too", "Kept") if opened else ():
            say(text)
        opened += 1

    def say_before_the_history(command: str) -> None:
        if opened > 1 and '"info"' in command:
            say("Newer")

    with interrupted(chromium, address, "Flo", say_before_the_history, say_before_a_line) as (page, lines):
        shown = page.get_by_role("listitem").all_text_contents()
        server.post("/channel_config", {"room.garden": {"log_events": 1}})
        lines[0].close(code=1012)
        missed = [f"Eve: {text}" for text in ("Lost", "Lost, too", "Kept", "Newer")]
        expect(page.get_by_role("listitem")).to_have_text(shown + missed)
        server.post("/channel_config", {"room.garden": {"log_events": 256}})


def test_a_page_stays_while_its_tokens_are_renewed(chromium: Browser, address: str, server: Any) -> None:
    """Until the application no longer knows its user, and the last token is revoked: the page says so."""
    page = sign_in(chromium, address, "Cid")
    expect(page.get_by_role("status")).to_have_text("Connected.")
    for _ in range(2):
        with page.expect_response("**/token") as answer:
            pass
        assert answer.value.ok
    expect(page.get_by_role("status")).to_have_text("Connected.")
    page.context.clear_cookies()
    server.post("/revoke", {"user": "Cid"})
    expect(page.get_by_role("status")).to_have_text(
        "The chat has ended (no connection: /token answered 401). Sign in again."
    )
    page.context.close()


def test_a_restart_without_data(chromium: Browser, start_server: Any, port: str) -> None:
    """The pages show who is there, and say nothing of a fault: a new connection enters the room again."""
    flags = ("-p", port, "-s", SECRET, "--token-max-age-s", "600")
    server = start_server(*flags)
    with running("tokens", server.url, SECRET) as address:
        pages = [sign_in(chromium, address, name) for name in ("Ann", "Bob")]
        for page in pages:
            expect(page.locator("#here")).to_have_text("Ann, Bob")
        server.stop()
        for page in pages:
            expect(page.get_by_role("status")).to_contain_text("trying again")
        start_server(*flags)
        for page in pages:
            expect(page.get_by_role("status")).to_have_text("Connected.", timeout=30_000)
            expect(page.locator("#here")).to_have_text("Ann, Bob")
            page.get_by_label("Message").fill("Here again")
            page.get_by_role("button", name="Send").click()
        for page in pages:
            expect(page.get_by_role("listitem")).to_have_count(2)
            expect(page.get_by_role("alert")).to_be_empty()
            page.context.close()
