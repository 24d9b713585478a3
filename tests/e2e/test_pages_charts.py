"""The charts of the overview in a browser, over a real server."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from channelstream.admin.series import SERIES

pytestmark = pytest.mark.browser

CHARTS = 15
OF_ENGINE = 2
"""Charts of an engine that is a file or a service."""


def show(page: Page, rows: list[Any], groups: list[str] | None = None) -> None:
    """Load the page again with a history of these rows, one a minute."""
    columns = {"columns": [*SERIES], "groups": groups or [], "rows": rows, "marks": []}
    history = columns | {"interval_s": 60.0, "kept_s": 3600.0}
    page.route("**/data/history*", lambda route: route.fulfill(json=history))
    page.reload()


def test_charts_say_their_figures(open_admin: Callable[..., Page]) -> None:
    """Every chart is drawn, and has a description in words."""
    page = open_admin()
    charts = page.get_by_role("img")
    expect(charts).to_have_count(CHARTS)
    for name in ("Connections", "Deliveries", "Messages published", "Delay of", "Stalls of", "Memory", "CPU"):
        expect(
            page.get_by_role("img", name=re.compile(f"^{name}.*: now .*, lowest .*, highest "))
        ).to_be_visible()
    expect(page.locator(".chart .line").first).to_have_attribute("d", re.compile("^M"))


def test_all_charts_show_the_same_time(open_admin: Callable[..., Page]) -> None:
    """Also one whose first and last values are unknown: nothing was written then, so its present value is unknown too."""
    page = open_admin()
    known = {"latency_p50_ms": 0.25, "latency_p95_ms": 0.5, "latency_p99_ms": 1.0}
    unknown = dict.fromkeys(known)
    ones: dict[str, Any] = dict.fromkeys(SERIES, 1) | {"endings": []}
    rows = [
        list((ones | {"at_s": 60.0 * number} | (known if number == 2 else unknown)).values())
        for number in range(1, 5)
    ]
    show(page, rows)
    latency = page.locator(".chart").filter(has_text="Latency")
    expect(latency.locator("strong")).to_have_text("–")
    expect(latency.get_by_role("img")).to_have_accessible_name(re.compile(r"now unknown, lowest 1\sms"))
    expect(page.locator(".chart .axis")).to_have_text(["3 min agonow"] * (CHARTS + OF_ENGINE))
    assert latency.locator(".line").evaluate(
        "line => line.isPointInStroke(DOMPoint.fromPoint({x: 200, y: 108}))"
    ), "a value between unknown ones is drawn as well"


def test_what_ended_is_counted_by_reason(open_admin: Callable[..., Page]) -> None:
    """In the time of the charts, the most frequent first; each with a small chart, and the code of most in a large one."""
    page = open_admin()
    groups = ["none stream the line was lost", "4008 connection too slow <b>now</b>"]
    ended = {60.0: [[0, 5], [1, 2]], 120.0: [[1, 9]], 180.0: [[1, 7], [0, 2]]}
    ones: dict[str, Any] = dict.fromkeys(SERIES, 1)
    rows = [
        list((ones | {"at_s": at_s, "ended": 9, "endings": pairs}).values()) for at_s, pairs in ended.items()
    ]
    show(page, rows, groups)
    expect(page.locator("#groups tbody tr")).to_contain_text(
        ["4008connectiontoo slow <b>now</b>18", "–streamthe line was lost7"]
    )
    drawn = [path.get_attribute("d") or "" for path in page.locator("#groups path").all()]
    assert [len(re.findall("M", path)) for path in drawn] == [3, 2]
    chart = page.locator(".chart").filter(has_text="Streams and connections ended")
    expect(chart.locator("strong")).to_have_text("9, 7 of them with code 4008")
