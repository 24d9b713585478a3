"""Messages that an admin sends from a page."""

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


@pytest.fixture
def channel() -> str:
    """The name of a channel that no other test uses."""
    return f"sending-{uuid4().hex[:8]}"


@pytest.fixture
def sender(open_admin: Callable[..., Page], post: Callable[..., Any], channel: str) -> Page:
    """The page of a channel in which somebody is."""
    configs = {channel: {"store_history": True}}
    post("/connect", {"username": "sending-ann", "channels": [channel], "channel_configs": configs})
    page = open_admin(f"/admin/channel?name={channel}")
    expect(page.locator("#users")).to_contain_text("sending-ann")
    return page


def send(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_a_message_to_a_channel_with_listeners_is_confirmed(sender: Page, channel: str) -> None:
    """The question says how many receive what. Escape sends nothing, and what was typed stays."""
    send(sender, "[sic] hello")
    expect(sender.locator("#send-note")).to_contain_text(
        "This is no JSON: at line 1, column 2 a value is expected. Correct it"
    )
    sender.get_by_label("Send as text").check()
    sender.get_by_role("button", name="Send").click()
    question = sender.get_by_role("dialog")
    expect(question).to_contain_text(f"Send to {channel}?")
    expect(question).to_contain_text("One connection receives it at once.")
    expect(question).to_contain_text('{"text":"[sic] hello"}')
    sender.keyboard.press("Escape")
    expect(question).to_be_hidden()
    expect(sender.get_by_role("textbox", name="Message")).to_have_value("[sic] hello")
    expect(sender.locator("#send-note")).to_have_text("")
    sender.get_by_role("button", name="Send").click()
    question.get_by_role("button", name="Send").click()
    expect(sender.locator("#send-note")).to_have_text("Sent.")
    expect(sender.locator("#messages li")).to_have_count(1)
    expect(sender.locator("#messages")).to_contain_text('{"text":"[sic] hello"}')
    expect(sender.get_by_role("textbox", name="Message")).to_have_value("")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{\n  "a": 1,\n  b: 2\n}', "line 3, column 3 a name in double quotes is expected."),
        ('{"a": 1', "line 1, column 8 a comma or } is expected."),
        ('{"a": 1} {"b": 2}', "line 1, column 10 the end is expected."),
        ('{"a" 1}', "line 1, column 6 a colon is expected."),
        ('["a\\x"]', "line 1, column 4 an escape such as \\n is expected."),
        ("[01]", "line 1, column 3 a comma or ] is expected."),
        ('"open', "line 1, column 6 a closing quote is expected."),
    ],
)
def test_broken_json_is_not_sent(sender: Page, text: str, where: str) -> None:
    """The page says where it is broken, and puts the cursor there; nothing is asked."""
    send(sender, text)
    expect(sender.locator("#send-note")).to_contain_text(f"This is no JSON: at {where}")
    expect(sender.get_by_role("dialog")).to_be_hidden()
    field = sender.get_by_role("textbox", name="Message")
    expect(field).to_be_focused()
    line, column = map(int, re.findall(r"\d+", where)[:2])
    before = sum(map(len, text.splitlines(keepends=True)[: line - 1]))
    assert field.evaluate("field => field.selectionStart") == before + column - 1
    expect(sender.locator("#messages li")).to_have_count(0)
