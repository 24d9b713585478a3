"""The chat demo in a browser, over a real server.

Each test has names of its own, so that none waits for another's visitors to be gone.
"""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect
from tests.e2e.chat import message, person, room, say

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]


MISSING_PX = """select => {
  const free = select.cloneNode(true);
  free.style.cssText = "position: absolute; width: auto";
  select.after(free);
  const missing = free.offsetWidth - select.offsetWidth;
  free.remove();
  return missing;
}"""
"""How much wider an element would be if it had the room."""


def test_two_people_see_each_other_and_talk(join: Callable[..., Page]) -> None:
    """A visitor that joins appears in the other's list, and each reads the other's texts, in order."""
    ann = join("talk-ann")
    bob = join("talk-bob")
    expect(person(ann, "talk-bob")).to_be_visible()
    expect(person(bob, "talk-ann")).to_be_visible()
    texts = ["talk one", "talk two", "talk three"]
    for text in texts:
        say(ann, text)
    expect(bob.locator("#messages .text").filter(has_text="talk ")).to_have_text(texts)
    bob.get_by_role("button", name="Sign out").click()
    expect(person(ann, "talk-bob")).to_have_count(0)
    expect(bob.get_by_label("Your name")).to_be_visible()


def test_messages_are_sent_one_after_the_other(join: Callable[..., Page]) -> None:
    """Two requests at once could overtake each other."""
    page = join("order-ann")
    asked: list[Route] = []
    texts = ["the first in order", "the second in order"]

    def take(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.route("**/demo/message", take)
    for text in texts:
        say(page, text)
    page.evaluate("fetch('/demo/alive').then(answer => answer.status)")  # Behind whatever was sent.
    assert [route.request.post_data_json["text"] for route in asked] == texts[:1]
    asked[0].continue_()
    expect(page.locator("#messages .text").filter(has_text="in order")).to_have_text(texts)


def test_authors_edit_and_delete_their_messages(join: Callable[..., Page]) -> None:
    """Both windows show the edit and lose what is deleted; only the author has the buttons."""
    ann, bob = join("edit-ann"), join("edit-bob")
    say(ann, "draft of ann")
    expect(message(bob, "draft of ann")).to_be_visible()
    expect(message(bob, "draft of ann").get_by_role("button")).to_have_count(0)
    ann.get_by_role("textbox", name="Message").press("ArrowUp")
    expect(ann.get_by_role("textbox", name="Message")).to_have_value("draft of ann")
    say(ann, "fair copy of ann")
    for page in (ann, bob):
        expect(message(page, "fair copy of ann")).to_contain_text("edited")
        expect(message(page, "draft of ann")).to_have_count(0)
    message(ann, "fair copy of ann").hover()
    message(ann, "fair copy of ann").get_by_role("button", name="Delete").click()
    for page in (ann, bob):
        expect(message(page, "fair copy of ann")).to_have_count(0)


def test_escape_gives_the_draft_back(join: Callable[..., Page]) -> None:
    """Starting to edit keeps the draft, and Escape restores it."""
    ann = join("escape-ann")
    say(ann, "said before")
    field = ann.get_by_role("textbox", name="Message")
    field.fill("half a thought")
    message(ann, "said before").hover()
    message(ann, "said before").get_by_role("button", name="Edit").click()
    expect(field).to_have_value("said before")
    field.press("Escape")
    expect(field).to_have_value("half a thought")


def test_the_focus_stays_after_a_delete(join: Callable[..., Page]) -> None:
    """It goes to the next own message's button, then to the one before, and at last to the list of messages."""
    ann = join("focus-ann")
    for text in ("focus one", "focus two", "focus three"):
        say(ann, text)
        expect(message(ann, text)).to_be_visible()
    message(ann, "focus two").get_by_role("button", name="Delete").focus()
    for text, after in (("focus two", "focus three"), ("focus three", "focus one")):
        ann.keyboard.press("Enter")
        expect(message(ann, text)).to_have_count(0)
        expect(message(ann, after).get_by_role("button", name="Delete")).to_be_focused()
    ann.keyboard.press("Enter")
    expect(ann.get_by_role("log")).to_be_focused()


def test_a_private_message_reaches_one_person(join: Callable[..., Page]) -> None:
    """It is counted as unread, opened and answered; a third person sees nothing of it."""
    ann, bob, eve = join("pm-ann"), join("pm-bob"), join("pm-eve")
    person(ann, "pm-bob").get_by_role("button").click()
    expect(ann.get_by_role("heading", level=1)).to_have_text("pm-bob")
    say(ann, "just for you")
    expect(message(ann, "just for you")).to_be_visible()
    expect(room(bob, "pm-ann").locator(".unread")).to_have_text("1 unread")
    room(bob, "pm-ann").click()
    expect(message(bob, "just for you")).to_be_visible()
    say(bob, "thank you")
    expect(message(ann, "thank you")).to_be_visible()
    say(eve, "anything going on?")
    expect(message(eve, "anything going on?")).to_be_visible()
    expect(room(eve, "pm-ann")).to_have_count(0)


def test_a_change_of_status_is_seen(join: Callable[..., Page]) -> None:
    """The other's list shows it, in words and as the dot's colour."""
    ann, bob = join("status-ann"), join("status-bob")
    expect(person(bob, "status-ann")).to_contain_text("Available")
    ann.get_by_label("Your status").select_option("Busy")
    expect(person(bob, "status-ann")).to_contain_text("Busy")
    expect(person(bob, "status-ann").locator(".avatar")).to_have_attribute("data-status", "busy")


def test_channels_are_joined_and_left(join: Callable[..., Page]) -> None:
    """In a channel not joined one neither reads nor writes; after joining, both, history included."""
    ann, bob = join("room-ann"), join("room-bob")
    room(bob, "help").click()
    expect(bob.get_by_role("textbox", name="Message")).to_be_disabled()
    bob.get_by_role("button", name="Join channel").click()
    say(bob, "is anybody here?")
    expect(message(bob, "is anybody here?")).to_be_visible()
    room(ann, "help").click()
    ann.get_by_role("button", name="Join channel").click()
    expect(message(ann, "is anybody here?")).to_be_visible()
    expect(person(bob, "room-ann")).to_be_visible()
    ann.get_by_role("button", name="Leave channel").click()
    expect(person(bob, "room-ann")).to_have_count(0)
    room(ann, "random").click()
    say(ann, "over here")
    expect(room(bob, "random").locator(".unread")).to_have_text("1 unread")


def test_what_arrives_before_an_answer_stays(join: Callable[..., Page]) -> None:
    """The answer describes a moment before: it does not have what came after that, and has what was deleted after it."""
    ann, bob = join("answer-ann"), join("answer-bob")
    answers: list[tuple[Route, APIResponse]] = []
    ann.route("**/demo/unsubscribe", lambda route: answers.append((route, route.fetch())))
    for page in (ann, bob):
        room(page, "general").click()
    say(bob, "said and deleted of answer-bob")
    expect(message(ann, "said and deleted of answer-bob")).to_be_visible()
    room(ann, "random").click()
    with ann.expect_request("**/demo/unsubscribe"):
        ann.locator("#membership").click()
    room(ann, "general").click()
    expect(message(ann, "said and deleted of answer-bob")).to_be_visible()
    message(bob, "said and deleted of answer-bob").hover()
    message(bob, "said and deleted of answer-bob").get_by_role("button", name="Delete").click()
    say(bob, "said before the answer")
    expect(message(ann, "said before the answer")).to_be_visible()
    expect(message(ann, "said and deleted of answer-bob")).to_have_count(0)
    ((route, answer),) = answers
    route.fulfill(response=answer)
    room(ann, "random").click()
    expect(ann.locator("#membership")).to_have_text("Join channel")
    room(ann, "general").click()
    expect(message(ann, "said before the answer")).to_have_count(1)
    expect(message(ann, "said and deleted of answer-bob")).to_have_count(0)


def test_history_is_there_after_a_reload(join: Callable[..., Page]) -> None:
    """The cookie signs in again, the history is shown, and own messages can still be edited."""
    ann = join("reload-ann")
    say(ann, "before the reload")
    expect(message(ann, "before the reload")).to_be_visible()
    ann.reload()
    expect(message(ann, "before the reload")).to_be_visible()
    message(ann, "before the reload").hover()
    message(ann, "before the reload").get_by_role("button", name="Edit").click()
    say(ann, "after the reload")
    expect(message(ann, "after the reload")).to_contain_text("edited")


def test_a_dropped_connection_is_shown_and_misses_nothing(
    join: Callable[..., Page], line: Any, watch: Any
) -> None:
    """A note appears when the line is cut; messages sent meanwhile appear once it is mended, once each."""
    watch.expected = "net::ERR_"  # What a cut breaks off depends on what is under way.
    ann, bob = join("drop-ann", base=line.url), join("drop-bob")
    say(bob, "can you read me?")
    expect(message(ann, "can you read me?")).to_be_visible()
    line.cut()
    expect(ann.locator("#note")).to_contain_text("The connection was lost")
    expect(ann.locator("#link")).to_have_text("Offline")
    say(bob, "said while ann was away")
    expect(message(bob, "said while ann was away")).to_be_visible()
    say(ann, "ann cannot send")
    expect(ann.locator("#send-fault")).to_have_text("The server cannot be reached.")
    expect(ann.get_by_role("textbox", name="Message")).to_have_value("ann cannot send")
    line.mend()
    expect(ann.locator("#link")).to_have_text("Live")
    expect(ann.locator("#note")).to_be_hidden()
    expect(message(ann, "said while ann was away")).to_have_count(1)
    say(ann, "ann is back")
    expect(message(bob, "ann is back")).to_be_visible()


def test_an_answer_that_is_cut_is_like_none(join: Callable[..., Page]) -> None:
    """The text stays in its field, to be sent again."""
    ann = join("cut-ann")
    ann.route("**/demo/message", lambda route: route.fulfill(content_type="application/json", body='{"uu'))
    say(ann, "said on a bad line")
    expect(ann.locator("#send-fault")).to_have_text("The server cannot be reached.")
    expect(ann.get_by_role("textbox", name="Message")).to_have_value("said on a bad line")


def test_private_messages_are_in_every_tab_and_after_a_reload(join: Callable[..., Page]) -> None:
    """A tab that is opened later, and a page that is loaded again, have what both people wrote, edits included."""
    ann, bob = join("tabs-ann"), join("tabs-bob")
    person(ann, "tabs-bob").click()
    say(ann, "a secrt")
    expect(room(bob, "tabs-ann").locator(".unread")).to_have_text("1 unread")
    room(bob, "tabs-ann").click()
    say(bob, "an answer")
    message(ann, "an answer").wait_for()
    message(ann, "a secrt").get_by_role("button", name="Edit").click()
    say(ann, "a secret")
    message(bob, "a secret").wait_for()
    second = ann.context.new_page()
    second.goto("/demo")
    bob.reload()
    for page, other in ((second, "tabs-bob"), (bob, "tabs-ann")):
        expect(room(page, other).locator(".unread")).to_have_count(0)
        room(page, other).click()
        expect(page.locator("#messages .text")).to_have_text(["a secret", "an answer"])
        expect(message(page, "a secret")).to_contain_text("edited")
    say(second, "from the second tab")
    for page in (ann, bob):
        message(page, "from the second tab").wait_for()


def test_typing_is_shown(join: Callable[..., Page]) -> None:
    """The others in the room see it until the message comes or nothing follows; in no other room, and not oneself."""
    ann, bob = join("typing-ann"), join("typing-bob")
    expect(person(ann, "typing-bob")).to_be_visible()
    ann.get_by_role("textbox", name="Message").press_sequentially("hm")
    expect(bob.locator("#typing")).to_have_text("typing-ann is typing")
    expect(ann.locator("#typing")).to_have_text("")
    ann.keyboard.press("Enter")
    message(bob, "hm").wait_for()
    expect(bob.locator("#typing")).to_have_text("")
    person(ann, "typing-bob").click()
    say(ann, "privately")
    room(bob, "typing-ann").click()
    bob.get_by_role("textbox", name="Message").press_sequentially("x")
    expect(ann.locator("#typing")).to_have_text("typing-bob is typing")
    expect(ann.locator("#typing")).to_have_text("")
    expect(message(ann, "undefined")).to_have_count(0)


def test_names_and_messages_with_markup_stay_text(join: Callable[..., Page]) -> None:
    """Nothing that a visitor types becomes an element of another's page."""
    markup = "<img src=x onerror=alert(1)>"
    eve, ann = join(markup), join("markup-ann")
    say(eve, "<script>alert(2)</script>")
    expect(message(ann, "<script>alert(2)</script>").locator(".author")).to_have_text(markup)
    expect(person(ann, markup)).to_be_visible()
    for page in (eve, ann):
        expect(page.locator("#chat img:not(.brand img), #chat script")).to_have_count(0)
    eve.reload()
    expect(eve.locator("#my-name")).to_have_text(markup)


def test_a_name_that_is_taken_is_refused(join: Callable[..., Page], open_page: OpenPage, watch: Any) -> None:
    """The form says so and stays."""
    watch.expected = "409"
    join("taken-ann")
    other = open_page("/demo")
    other.get_by_label("Your name").fill("Taken-Ann")
    other.get_by_label("Your name").press("Enter")
    expect(other.get_by_role("alert")).to_contain_text("Somebody else has that name")


def test_fits_a_phone(join: Callable[..., Page]) -> None:
    """Nothing sticks out, the status is readable, and the list of people opens and closes."""
    ann = join("Qz", viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    for width in (500, 390, 360):
        ann.set_viewport_size({"width": width, "height": 780})
        assert ann.evaluate("document.documentElement.scrollWidth") <= width
        assert ann.locator("#status").evaluate(MISSING_PX) <= 0, f"the status is cut at {width} pixels"
    ann.set_viewport_size({"width": 390, "height": 780})
    toggle = ann.get_by_role("button", name="People")
    toggle.tap()
    expect(person(ann, "Qz")).to_be_visible()
    toggle.tap()
    expect(person(ann, "Qz")).to_be_hidden()
