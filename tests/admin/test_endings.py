"""How streams and connections ended, as the admin's pages show it."""

from typing import Any

import pytest
from tests import admin_pages
from tests.http_client import http
from tests.waiting import eventually

from channelstream.admin.endings import LATEST, LATEST_OF_GROUP, chosen


def rows(*groups: str) -> list[dict[str, Any]]:
    return [{"group": group, "at": str(number)} for number, group in enumerate(groups)]


def test_the_latest_of_each_group_are_shown() -> None:
    """Beside the latest of all."""
    of_groups = rows(*["routine"] * 800, *["rare"] * 5, "routine", "single")
    found = chosen(of_groups)
    assert [row["group"] for row in found] == [*["routine"] * LATEST, *["rare"] * LATEST_OF_GROUP, "single"]
    assert chosen(found) == found


@pytest.mark.nodes(3)
def test_each_node_shows_how_connections_ended_at_all(server: Any) -> None:
    """A rare ending is shown beside very many others."""
    auth = ("admin", server.admin_secret)
    for number, node in enumerate(server.nodes):
        node.connect("ended-ann", "ended", conn_id=f"ended-{number}")
        http.post(f"{node.url}/admin/do/disconnect", json={"conn_id": f"ended-{number}"}, auth=auth)
    wanted = {f"ended-{number}" for number in range(len(server.nodes))}

    def are_shown(node: Any) -> bool:
        return wanted <= {row["conn_id"] for row in admin_pages.rows(node, "endings")}

    for node in server.nodes:
        eventually(lambda node=node: are_shown(node), "an ending is missing")  # type: ignore[misc]
