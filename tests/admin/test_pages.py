"""The admin panel's routes."""

import asyncio
import re
from typing import Any

import pytest
from httpx import Client
from starlette.applications import Starlette
from tests.site import DOCUMENT
from tests.waiting import eventually

from channelstream.admin.columns import Cell
from channelstream.admin.tables import CONNECTIONS_OF, TABLES
from channelstream.site import PARTS

SIGNED = {"x-channelstream-secret": "signed"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_document_has_the_numbers_of_the_server(server: Any, method: str) -> None:
    """A signed call to admin.json counts the connections and users of each channel, and is never kept."""
    name = f"admin-document-{method}"
    server.connect("admin-ann", name)
    server.connect("admin-ann", name)
    server.connect("admin-bob", name)
    answer = server.request(method, "/admin/admin.json")
    document = answer.json()
    channel = document["channels"][name]
    assert (channel["total_connections"], channel["total_users"]) == (3, 2)
    assert {"admin-ann", "admin-bob"} <= {user["user"] for user in document["users"]}
    assert document["total_connections"] >= 3
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_the_document_is_sent_in_parts(app: Starlette) -> None:
    """As the panel has encoded it, with its whole length: it may be very long."""

    async def sent() -> list[Any]:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        headers = [(name.encode(), value.encode()) for name, value in SIGNED.items()]
        scope = {"type": "http", "method": "GET", "path": "/admin/admin.json", "headers": headers}
        receive = asyncio.Event().wait  # The client stays.
        await app({**scope, "query_string": b"", "server": ("push.test", 80)}, receive, send)
        return messages

    start, *parts = asyncio.run(sent())
    assert [part.get("body", b"") for part in parts] == [*DOCUMENT, b""]
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(b"".join(DOCUMENT))


def test_debug_is_the_same_document(server: Any) -> None:
    """/admin/debug of the second generation answers the keys of admin.json, with the same numbers."""

    def document(name: str) -> Any:
        return server.request("GET", f"/admin/{name}").json() | {"uptime": None}

    # Something may happen between the two: the server counts the turns of its loop that came late.
    eventually(lambda: document("admin.json") == document("debug"), "they differ each time")


def test_the_page_is_fenced_in(browser: Client) -> None:
    """No framing, no sniffing, nothing inline, nothing from elsewhere, nothing kept."""
    headers = browser.get("/admin", headers=SIGNED).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def headings(text: str) -> list[tuple[str, str]]:
    return re.findall(r'data-name="(\w+)" data-cell="(\w+)"', text)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_headings_are_the_columns(browser: Client, table: Any) -> None:
    """The page has every column as it is declared, and offers the sortable ones for sorting."""
    text, columns = browser.get(f"/admin/{table.name}", headers=SIGNED).text, table.listing.columns
    assert headings(text) == [(column.name, column.cell) for column in columns]
    assert re.findall(r'data-sort="(\w+)"', text) == [each.name for each in columns if each.is_sortable]
    assert all(f">{column.label}<" in text for column in columns)


def test_connections_of_a_user_have_the_same_columns(browser: Client) -> None:
    """Without the user, who is the page's subject, and without an order."""
    text = browser.get("/admin/user?name=ann", headers=SIGNED).text
    assert headings(text) == [(column.name, column.cell) for column in CONNECTIONS_OF["user"]]
    assert "user" not in dict(headings(text))
    assert "data-sort" not in text


def test_the_script_shows_every_kind_of_cell() -> None:
    """A cell that is declared has its function."""
    [admin] = [part for part in PARTS if part.name == "admin"]
    script = (admin / "static" / "cells.js").read_text()
    assert re.findall(r"^  (\w+): \(value\) =>", script, re.MULTILINE) == [cell.value for cell in Cell]


def test_a_column_is_declared_in_one_place() -> None:
    """Its heading and its cells: by the server for `rowOf`, else by the script of the page (`columns`)."""
    [admin] = [part for part in PARTS if part.name == "admin"]
    pages = {path.name: path.read_text() for path in admin.glob("templates/*.html")}
    assert [name for name, text in pages.items() if "<th" in text] == ["_headings.html"]
    scripts = {path.name: path.read_text() for path in admin.glob("static/*.js")}
    assert {name for name, text in scripts.items() if re.search(r"\bcell\(", text)} == {"cells.js"}
