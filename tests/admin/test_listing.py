"""Pages of tables with very many rows."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from tests.turns import turns_of_others

from channelstream.admin.columns import Column
from channelstream.admin.listing import MERGED_PAGES, PAGE_ROWS, SLICE_ROWS, Listing, PageRequest, Part
from channelstream.admin.tables import Tables
from channelstream.core.node_status import NodeStatus
from channelstream.service.remote_calls import NodeResult, RemoteResult

ROWS = 100_000
NAME: Column[int] = Column("name", "Name", int, order=lambda number: f"{number:06}")
REST: Column[int] = Column("rest", "Rest", lambda number: number % 1000)
ROOM: Column[int] = Column(
    "room", "Room", lambda number: f"Room-{number:06}", is_sortable=False, is_searched=True
)
LISTING: Listing[int] = Listing((NAME, REST, ROOM))


def page(rows: list[int], **asked: Any) -> dict[str, Any]:
    return asyncio.run(LISTING.page(rows, PageRequest(**asked)))


def names(reply: dict[str, Any]) -> list[int]:
    return [row["name"] for row in reply["rows"]]


@pytest.mark.slow
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", [NAME, REST], ids=lambda column: column.name)
@pytest.mark.parametrize("number", [0, 1, 999, 1999])
def test_any_page_of_many_rows_equals_a_full_sort(sort: Column[int], descending: bool, number: int) -> None:
    """Each page of 100,000 rows equals that of a full sort."""
    rows = [(index * 7919) % ROWS for index in range(ROWS)]
    reply = page(rows, sort=sort.name, descending=descending, page=number)
    whole = sorted(rows, key=sort.key, reverse=descending)
    assert names(reply) == whole[number * PAGE_ROWS : (number + 1) * PAGE_ROWS]
    assert (reply["page"], reply["pages"], reply["found"], reply["total"]) == (number, 2000, ROWS, ROWS)


def test_search_finds_in_any_case() -> None:
    """A search covers the words of all rows and returns the number of matches."""
    reply = page(list(range(ROWS)), search="ROOM-09999", descending=True)
    assert names(reply) == list(range(99_999, 99_989, -1))
    assert (reply["found"], reply["total"], reply["pages"]) == (10, ROWS, 1)


def test_nothing_found_is_an_empty_page() -> None:
    """Without rows there is one page, and it is empty."""
    reply = page(list(range(10)), search="nothing like it")
    assert (names(reply), reply["page"], reply["pages"], reply["found"]) == ([], 0, 1, 0)


def test_beyond_the_end_is_the_last_page() -> None:
    """A page that is no longer there is answered by the last one; all rows of one node can be paged to."""
    reply = page(list(range(PAGE_ROWS + 1)), page=70)
    assert (names(reply), reply["page"], reply["reachable"]) == ([PAGE_ROWS], 1, PAGE_ROWS + 1)


@pytest.mark.parametrize("asked", ["__class__", "", "room"])
def test_rows_that_cannot_be_sorted_so_have_the_first_order(asked: str) -> None:
    """An unknown column, and one that is not sortable: the answer names the column that was used."""
    assert page([2, 1], sort=asked)["sort"] == "name"


def test_rows_have_a_value_for_every_column() -> None:
    """Under its name, as it is read: what they are ordered by is not in the answer."""
    assert page([1007])["rows"] == [{"name": 1007, "rest": 7, "room": "Room-001007"}]


def test_other_tasks_run_between_slices() -> None:
    """The loop turns between slices of a search and a sort of 100,000 rows, and of the last page."""
    work = LISTING.page(list(range(ROWS)), PageRequest(search="room", page=1999))
    _, turns = asyncio.run(turns_of_others(work))
    assert turns >= 3 * ROWS // SLICE_ROWS - 1


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("number", [0, 3, 19, 25])
def test_a_page_of_several_nodes_equals_that_of_one(descending: bool, number: int) -> None:
    """As far as they can be asked for; beyond it is the last such page."""
    rows = [(index * 7919) % 10_000 for index in range(10_000)]
    request = PageRequest(search="room", sort=REST.name, descending=descending, page=number)

    async def merged() -> dict[str, Any]:
        return LISTING.merged([await LISTING.part(rows[start::3], request) for start in range(3)], request)

    reply = asyncio.run(merged())
    shown = min(number, MERGED_PAGES - 1)
    whole = sorted((row % 1000 for row in rows), reverse=descending)
    assert [row["rest"] for row in reply["rows"]] == whole[shown * PAGE_ROWS : (shown + 1) * PAGE_ROWS]
    assert (reply["page"], reply["pages"]) == (shown, MERGED_PAGES)
    assert (reply["found"], reply["total"], reply["reachable"]) == (10_000, 10_000, 1_000)


def test_nodes_whose_connections_are_missing_are_named() -> None:
    """With the reason; the page has those of the others."""
    row = {"id": "c1", "user": "ann"}
    part = msgspec.msgpack.encode(Part(7, 1, [("ann", row)]))
    results = {
        "b": RemoteResult(failure="The node does not answer."),
        "c": RemoteResult(part),
        "d": RemoteResult(b"\xc0"),
    }

    async def call_all(procedure: str, argument: bytes) -> list[NodeResult]:
        return [
            NodeResult(NodeStatus(name, f"node {name}", 0, 0.0, is_alive=True), False, result)
            for name, result in results.items()
        ]

    calls = SimpleNamespace(register=lambda name, procedure: None, call_all=call_all)
    node = SimpleNamespace(is_single=False, remote_calls=calls)
    tables = Tables(cast(Any, SimpleNamespace(node=node, app=SimpleNamespace(id=""))))
    found = asyncio.run(tables.page("connections", PageRequest()))
    assert (found["rows"], found["total"]) == ([row], 7)
    assert found["missing"] == [
        {"label": "node b", "failure": "The node does not answer."},
        {"label": "node d", "failure": "The version of the node has other tables."},
    ]
