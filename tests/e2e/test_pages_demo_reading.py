"""What a reader of the chat demo sees of a conversation that goes on."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.chat import message, room, say

pytestmark = pytest.mark.browser


def say_many(page: Page, name: str, count: int) -> None:
    for text in (f"{name} {number:02}" for number in range(count)):
        say(page, text)
        expect(message(page, text)).to_be_visible()


def post_many(post: Callable[[str, Any], Any], name: str, count: int) -> None:
    """Publish messages in a channel of the demo in one call, as its people could not."""
    texts = (f"{name} {number:02}" for number in range(count))
    post("/message", [{"channel": "demo-random", "user": name, "message": {"text": text}} for text in texts])


def test_the_newest_message_stays_in_view(join: Callable[..., Page]) -> None:
    """It does when the window gets lower, as a keyboard makes it, when the field grows, and when a note appears."""
    ann = join("view-ann", viewport={"width": 390, "height": 640})
    say_many(ann, "view", 14)
    newest = message(ann, "view 13").locator(".text")
    expect(newest).to_be_in_viewport(ratio=1)
    ann.set_viewport_size({"width": 390, "height": 440})
    expect(newest).to_be_in_viewport(ratio=1)
    ann.get_by_role("textbox", name="Message").fill("a draft\nof\nfour\nlines")
    expect(newest).to_be_in_viewport(ratio=1)
    ann.locator("#note").evaluate("note => note.hidden = false")
    expect(newest).to_be_in_viewport(ratio=1)


def test_a_reader_of_older_messages_keeps_the_place(join: Callable[..., Page]) -> None:
    """New messages move nothing and are offered by a button; an own one leads to the end."""
    small = {"viewport": {"width": 390, "height": 480}}
    ann, bob = join("place-ann", **small), join("place-bob")
    say_many(bob, "place", 14)
    expect(message(ann, "place 13")).to_be_in_viewport()
    oldest = message(ann, "place 00")
    oldest.scroll_into_view_if_needed()
    place = oldest.bounding_box()
    expect(ann.get_by_role("button", name="New messages below")).to_be_hidden()
    say(bob, "something new")
    ann.get_by_role("button", name="New messages below").wait_for()
    assert oldest.bounding_box() == place
    expect(message(ann, "something new")).not_to_be_in_viewport()
    ann.get_by_role("button", name="New messages below").click()
    expect(message(ann, "something new")).to_be_in_viewport()
    expect(ann.get_by_role("button", name="New messages below")).to_be_hidden()
    oldest.scroll_into_view_if_needed()
    say(ann, "an answer")
    expect(message(ann, "an answer")).to_be_in_viewport()


def test_older_messages_load_on_scrolling_up(
    join: Callable[..., Page], post: Callable[[str, Any], Any]
) -> None:
    """Page by page, in order, until the first one; what is read keeps its place meanwhile."""
    join("older-bob")
    post_many(post, "older", 55)
    ann = join("older-ann", viewport={"width": 390, "height": 600})
    room(ann, "random").click()
    texts = ann.locator("#messages .text").filter(has_text="older ")
    expect(texts).to_have_count(20)
    for before, first, count in (("older 35", "older 15", 40), ("older 15", "older 00", 55)):
        ann.locator("#scroll").evaluate("box => { box.scrollTop = 0; }")
        expect(texts).to_have_count(count)
        expect(texts.first).to_have_text(first)
        expect(message(ann, before)).to_be_in_viewport()
    expect(texts).to_have_text([f"older {n:02}" for n in range(55)])


def test_a_high_window_is_filled(join: Callable[..., Page], post: Callable[[str, Any], Any]) -> None:
    """Where the newest messages leave room, older ones load without scrolling."""
    join("high-bob")
    post_many(post, "high", 45)
    ann = join("high-ann", viewport={"width": 1280, "height": 1500})
    room(ann, "random").click()
    expect(ann.locator("#messages .text").first).to_have_text("high 05")


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (
            "see https://example.org/a?b=1#c, or http://[::1]:8000/x.",
            "https://example.org/a?b=1#c http://[::1]:8000/x",
        ),
        (
            "(https://example.org/wiki/Line_(art)) https://example.org/straße!",
            "https://example.org/wiki/Line_(art) https://example.org/straße",
        ),
        ("javascript:alert(1) data:text/html,x ftp://example.org xhttps://example.org", ""),
        ("https:// and https://% and https://exa\u202emple.org", "https://exa"),
        ('<a href="https://example.org/">no</a>', "https://example.org/"),
    ],
)
def test_addresses_are_links(join: Callable[..., Page], text: str, addresses: str) -> None:
    """Those of http and https are, without what ends the sentence. The text is unchanged."""
    ann = join(f"link-{uuid4().hex[:8]}")
    say(ann, text)
    said = ann.locator("#messages .text").last
    expect(said).to_have_text(text)
    links = said.get_by_role("link")
    assert links.all_inner_texts() == addresses.split()
    for link in links.all():
        assert (link.get_attribute("target"), link.get_attribute("rel")) == (
            "_blank",
            "noopener noreferrer nofollow",
        )
        assert link.get_attribute("href") == link.inner_text()
