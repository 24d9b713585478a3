"""The data of the admin's pages, and their actions."""

import json
from typing import Any

import pytest
from httpx import Client
from tests.site import RecordedActs

from channelstream.pages.act import Act

SIGNED = {"x-channelstream-secret": "signed"}
ACTIONS = ["disconnect", "settings", "message"]


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ("", "", False, 0, None)),
        (
            "?search=%20ann%20&sort=users&descending=true&page=7&state=live",
            ("ann", "users", True, 7, "live"),
        ),
        ("?page=-1&descending=yes", ("", "", False, 0, None)),
        ("?page=99999999999999999999", ("", "", False, 0, None)),
        ("?page=%C2%B2", ("", "", False, 0, None)),
    ],
)
def test_tables_pass_the_wish_on(browser: Client, panel: Any, query: str, asked: tuple[Any, ...]) -> None:
    """Search, order and page are read from the query; anything but a number is the first page."""
    answer = browser.get(f"/admin/data/channels{query}", headers=SIGNED)
    assert (answer.json(), panel.asked) == ({"rows": []}, [("channels", *asked)])
    assert answer.headers["cache-control"] == "no-store"


def test_long_searches_are_cut(browser: Client, panel: Any) -> None:
    """Of a text longer than any name the beginning is searched for."""
    browser.get("/admin/data/users", params={"search": "x" * 4000}, headers=SIGNED)
    assert len(panel.asked[0][1]) == 512


@pytest.mark.parametrize("kind", ["channel", "user", "connection"])
def test_unknown_things_are_404(browser: Client, kind: str) -> None:
    """Known items are described; unknown ones are answered with a sentence."""
    assert browser.get(f"/admin/data/{kind}?name=known", headers=SIGNED).json() == {"name": "known"}
    answer = browser.get(f"/admin/data/{kind}?name=other", headers=SIGNED)
    assert (answer.status_code, answer.json()["error"]) == (404, f"There is no such {kind}.")


def test_figures_come_as_a_stream(browser: Client) -> None:
    """Each set of figures is an event; the browser is asked to reconnect soon after the end."""
    answer = browser.get("/admin/live", headers=SIGNED)
    assert answer.headers["content-type"].startswith("text/event-stream")
    retry, *blocks = answer.text.strip().split("\n\n")
    assert retry == "retry: 500"
    assert [json.loads(block.removeprefix("data: ")) for block in blocks] == [
        {"figures": {"connections": 0}},
        {"figures": {"connections": 1}},
    ]


def test_too_many_watchers_are_sent_away(browser: Client, panel: Any) -> None:
    """At the bound the answer is 503 with Retry-After."""
    panel.asked.append("full")
    answer = browser.get("/admin/live", headers=SIGNED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_admin_may_act(browser: Client, panel: Any, action: str) -> None:
    """The body is forwarded unchanged; a refusal of the API is returned unchanged."""
    assert browser.post(f"/admin/do/{action}", content=b"{}", headers=SIGNED).json() is True
    assert panel.asked == [(action, b"{}")]
    refused = browser.post(f"/admin/do/{action}", content=b"[]", headers=SIGNED)
    assert (refused.status_code, refused.json()["faults"]) == (422, {"channel": ["Missing."]})


def test_what_is_done_is_recorded(browser: Client, acts: RecordedActs) -> None:
    """Not what was refused."""
    browser.post("/admin/do/disconnect", content=b'{"conn_id":"c"}', headers=SIGNED)
    browser.post("/admin/do/disconnect", content=b"[]", headers=SIGNED)
    done = Act("key test", "127.0.0.1", "disconnected", "connection", "c")
    assert acts.recorded == [done]
    rows = browser.get("/admin/data/acts", headers=SIGNED).json()["rows"]
    assert [row["name"] for row in rows] == ["c"]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_stranger_may_not_act(browser: Client, panel: Any, action: str) -> None:
    """Without credentials a page is sent to the form, a program gets 401, and nothing is done."""
    asked_by_page = browser.post(f"/admin/do/{action}", content=b"{}", headers={"sec-fetch-mode": "cors"})
    assert asked_by_page.status_code == 302
    assert browser.post(f"/admin/do/{action}", content=b"{}").status_code == 401
    assert panel.asked == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("sender", [{"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}])
def test_another_site_may_not_act(browser: Client, panel: Any, action: str, sender: dict[str, str]) -> None:
    """A request that a foreign page makes in the admin's browser is refused."""
    answer = browser.post(f"/admin/do/{action}", content=b"{}", headers=SIGNED | sender)
    assert (answer.status_code, panel.asked) == (403, [])


def test_long_bodies_are_refused(browser: Client, panel: Any) -> None:
    """An action's body is bounded."""
    answer = browser.post("/admin/do/message", content=b"x" * 65_537, headers=SIGNED)
    assert (answer.status_code, panel.asked) == (413, [])
