"""The explorer of the API in a browser, over a real server."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
FOCUSED = """() => {
  const focused = document.activeElement;
  return {[`${focused.tagName} ${focused.textContent.slice(0, 20)}`]: getComputedStyle(focused).outlineStyle};
}"""


@pytest.fixture
def document(server: Any) -> Any:
    """The description of the API that the explorer shows."""
    return server.request("GET", "/openapi.json").json()


def test_the_explorer_makes_signed_calls(open_admin: Callable[..., Page], document: Any) -> None:
    """An operation executed on the page is signed and answered 200 by the server itself."""
    # The only one: `test_pages_matrix.py` shows all, which takes seconds.
    document["paths"] = {"/info": document["paths"]["/info"]}
    page = open_admin(answers={"openapi.json": json.dumps(document)})
    page.get_by_role("link", name="API explorer").click()
    operation = page.locator(".opblock-post").filter(has=page.locator('[data-path="/info"]'))
    operation.locator(".opblock-summary-control").click()
    operation.locator(".body-param__text").fill('{"info": {"channels": []}}')
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")
    expect(answer.locator(".response-col_description").last).to_contain_text('"channels": {}')


def test_the_samples_of_the_explorer_work_twice(open_admin: Callable[..., Page], document: Any) -> None:
    """Each press sends another message; then the samples of an edit and a deletion name the last one."""
    document["paths"] = {"/message": document["paths"]["/message"]}
    page = open_admin("/api-explorer", answers={"openapi.json": json.dumps(document)})

    def send(method: str, times: int) -> list[Any]:
        operation = page.locator(f".opblock-{method}")
        operation.locator(".opblock-summary-control").click()
        sent = []
        for _ in range(times):
            with page.expect_response("**/message") as answered:
                operation.get_by_role("button", name="Execute").click()
            sent.append(answered.value.json())
        expect(operation.locator(".live-responses-table .response-col_description").last).to_contain_text(
            sent[-1]["uuid"]
        )
        return sent

    first, last = send("post", 2)
    assert first["uuid"] != last["uuid"]
    for method in ("patch", "delete"):
        uuids = {each["uuid"] for each in send(method, 2)}
        assert uuids == {last["uuid"]}


def test_the_focus_is_seen(open_admin: Callable[..., Page], document: Any) -> None:
    """By those who move it with the keyboard: through the fields of an operation, and the schemas below."""
    document["paths"] = {"/info": document["paths"]["/info"]}
    page = open_admin("/api-explorer", answers={"openapi.json": json.dumps(document)})
    page.locator(".opblock-post .opblock-summary-control").click()
    page.locator(".body-param__text").wait_for()
    outlines = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        outlines |= page.evaluate(FOCUSED)
    assert {"TEXTAREA", "BUTTON"} <= {name.split()[0] for name in outlines}
    assert not [name for name, outline in outlines.items() if outline == "none"]
