"""What a visitor of the chat demo does and sees in a browser."""

from playwright.sync_api import Locator, Page


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def message(page: Page, text: str) -> Locator:
    return page.locator("#messages .message").filter(has_text=text)


def person(page: Page, name: str) -> Locator:
    return page.locator("#people-list li").filter(has_text=name)


def room(page: Page, name: str) -> Locator:
    return page.locator("#rooms li button").filter(has_text=name)
