"""The form that guards the admin pages."""

from playwright.sync_api import Page


def sign_in(page: Page, password: str, user: str = "admin") -> Page:
    """Fill in the form that a page has led to, and send it."""
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    return page
