"""Pages of tables with many rows. The server searches and sorts, and sends only the rows of one page.

All work on rows is done in slices, with an event loop turn between them, so it does not block the loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, Generic, TypeVar

from msgspec import Struct

from channelstream.admin.columns import Column

T = TypeVar("T")

PAGE_ROWS = 50
MERGED_PAGES = 20
"""Pages of the rows of several nodes that can be asked for: each node sends all rows up to the page."""
SLICE_ROWS = 1000
"""Rows processed in one event loop turn: at most about 1 ms (measured with 100,000 channels)."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a table to return.

    Attributes:
        only: by the name of a column with choices, the value that a row must have; another column does not count.
        search: text that a row must contain, in upper or lower case; empty means all rows.
        sort: name of a column; an unknown name means the first column.
        page: number of the page, from 0; a number beyond the end means the last page.
    """

    search: str = ""
    sort: str = ""
    descending: bool = False
    page: int = 0
    only: Mapping[str, str] = field(default_factory=dict)


class Part(Struct, frozen=True, array_like=True):
    """The rows of one node for a page of those of all nodes.

    Attributes:
        total: all its rows.
        found: those that were asked for.
        rows: the first of these in order, each after what it is ordered by.
    """

    total: int
    found: int
    rows: list[tuple[Any, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """Searches, sorts and shows rows by their columns, of which the first decides the order if none is asked for."""

    columns: Sequence[Column[T]]

    def row(self, row: T) -> dict[str, Any]:
        """Return what the page shows of a row."""
        return {column.name: column.read(row) for column in self.columns}

    async def page(self, rows: Sequence[T], request: PageRequest) -> dict[str, Any]:
        """Return one page, with the number of all rows and of the rows found."""
        found = await self._found(rows, request)
        pages = _pages(len(found))
        number = min(max(request.page, 0), pages - 1)
        key = self._sort_column(request.sort).key
        ordered = await self._ordered(found, key, request.descending, (number + 1) * PAGE_ROWS)
        await _skip(ordered, number * PAGE_ROWS)
        shown = [self.row(row) for row in islice(ordered, PAGE_ROWS)]
        return self._page(shown, request, number, pages, len(found), len(rows))

    async def part(self, rows: Sequence[T], request: PageRequest) -> Part:
        """Return what one node has for a page of the rows of all nodes (`merged`)."""
        found = await self._found(rows, request)
        count = (min(max(request.page, 0), MERGED_PAGES - 1) + 1) * PAGE_ROWS
        key = self._sort_column(request.sort).key
        ordered = await self._ordered(found, key, request.descending, count)
        return Part(len(rows), len(found), [(key(row), self.row(row)) for row in islice(ordered, count)])

    def merged(self, parts: Sequence[Part], request: PageRequest) -> dict[str, Any]:
        """Return one page of the rows of several nodes; of so many rows, the first `MERGED_PAGES` pages are `reachable`."""
        found = sum(part.found for part in parts)
        pages = min(_pages(found), MERGED_PAGES)
        number = min(max(request.page, 0), pages - 1)
        ordered = merge(*(part.rows for part in parts), key=itemgetter(0), reverse=request.descending)
        shown = [row for _, row in islice(ordered, number * PAGE_ROWS, (number + 1) * PAGE_ROWS)]
        return self._page(shown, request, number, pages, found, sum(part.total for part in parts))

    def _page(
        self,
        rows: list[dict[str, Any]],
        request: PageRequest,
        number: int,
        pages: int,
        found: int,
        total: int,
    ) -> dict[str, Any]:
        return {
            "rows": rows,
            "page": number,
            "pages": pages,
            "reachable": min(found, pages * PAGE_ROWS),
            "found": found,
            "total": total,
            "sort": self._sort_column(request.sort).name,
            "descending": request.descending,
        }

    def _sort_column(self, name: str) -> Column[T]:
        asked = (column for column in self.columns if column.is_sortable and column.name == name)
        return next(asked, self.columns[0])

    async def _found(self, rows: Sequence[T], request: PageRequest) -> Sequence[T]:
        chosen = [
            (column.read, request.only[column.name])
            for column in self.columns
            if request.only.get(column.name) in column.choices
        ]
        wanted = request.search.casefold()
        if not wanted and not chosen:
            return rows
        texts = [column.read for column in self.columns if column.is_searched]
        found: list[T] = []
        for piece in _slices(rows):
            found += [
                row
                for row in piece
                if all(read(row) == value for read, value in chosen)
                and wanted in " ".join(text(row) for text in texts).casefold()
            ]
            await asyncio.sleep(0)
        return found

    async def _ordered(
        self, rows: Sequence[T], key: Callable[[T], Any], descending: bool, count: int
    ) -> Iterator[T]:
        """Return at least the first `count` rows in order. Slices are sorted one by one and then merged lazily."""
        runs = []
        for piece in _slices(rows):
            runs.append(sorted(piece, key=key, reverse=descending)[:count])
            await asyncio.sleep(0)
        return iter(merge(*runs, key=key, reverse=descending))


def _pages(rows: int) -> int:
    return max(1, -(-rows // PAGE_ROWS))


def _slices(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + SLICE_ROWS] for start in range(0, len(rows), SLICE_ROWS))


async def _skip(rows: Iterable[Any], count: int) -> None:
    """Skip the rows before the page."""
    while count > 0:
        for _ in islice(rows, min(count, SLICE_ROWS)):
            pass
        count -= SLICE_ROWS
        await asyncio.sleep(0)
