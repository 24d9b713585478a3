"""The busiest channels and callers, as the admin's pages show them."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.admin_pages import data
from tests.http_client import http
from tests.waiting import eventually


def rows(node: Any, table: str, **wanted: str) -> list[dict[str, Any]]:
    """Return the rows of a table that have these values."""
    return [row for row in data(node, "busiest")[table] if wanted.items() <= row.items()]


@pytest.mark.nodes(3)
def test_the_busiest_channels_of_all_nodes_are_shown(server: Any) -> None:
    """With the messages accepted and the events delivered, at whichever nodes; a quiet channel comes after them.

    The minutes of nodes have different lengths until each has run for one, but the ratio of two channels is the same at all.
    """
    for node in server.nodes:
        node.connect("busy-ann", "busy", "quiet")
    for node in server.nodes:
        for channel, count in (("busy", 100), ("quiet", 10)):
            node.post("/message", [{"channel": channel, "user": "x", "message": 1}] * count)

    def is_shown() -> bool:
        found = [row for row in rows(server.any, "channels") if row["name"] in ("busy", "quiet")]
        return (
            [row["name"] for row in found] == ["busy", "quiet"]
            and all(row["deliveries"] == pytest.approx(len(server.nodes) * row["published"]) for row in found)
            and found[0]["published"] == pytest.approx(10 * found[1]["published"])
        )

    eventually(is_shown, "it is not shown")


def test_the_busiest_callers_are_shown(start_server: Callable[..., Any]) -> None:
    """By address and key, with what was refused of them."""
    node = start_server("--metrics-allow", "127.0.0.1")
    for number in range(20):
        node.post("/message", [{"channel": "a", "user": "x", "message": number}])
        http.post(f"{node.url}/message", json=[], headers={"x-channelstream-secret": "wrong"})

    def is_shown() -> bool:
        found = rows(node, "callers", address="127.0.0.1", key="")
        return bool(found) and found[0]["calls"] > 0 and found[0]["refused"] == found[0]["calls"]

    eventually(is_shown, "they are not shown")


def test_states_and_histories_are_ordered_by_their_size(start_server: Callable[..., Any]) -> None:
    """In the tables of users and channels."""
    node = start_server()
    for size in (1, 3, 2):
        state = {"bio": "x" * 100 * size}
        node.post("/connect", {"username": f"size-{size}", "channels": [], "fresh_user_state": state})
        node.post("/channel_config", {f"size-{size}": {"store_history": True}})
        node.post("/message", [{"channel": f"size-{size}", "user": "x", "message": state}])

    def ordered(table: str, column: str) -> list[tuple[str, int]]:
        found = data(node, table, sort=column, descending="true")["rows"]
        return [(row["name"], row[column]) for row in found]

    users, channels = ordered("users", "state_bytes"), ordered("channels", "history_bytes")
    assert users == [(f"size-{size}", 100 * size + len('"bio""') + 1) for size in (3, 2, 1)]
    assert [name for name, _ in channels] == ["size-3", "size-2", "size-1"]
    assert all(size > 100 for _, size in channels)
