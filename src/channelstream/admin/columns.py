"""The columns of a table: each is declared once, for the page, its JSON, the order and the search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Cell(StrEnum):
    """How a page shows a value: `static/cells.js` has a function for each."""

    TEXT = "text"
    WORD = "word"
    ID = "id"
    COUNT = "count"
    BYTES = "bytes"
    TIME = "time"
    MARKS = "marks"
    PAIRS = "pairs"
    LEASE = "lease"
    CHANNEL = "channel"
    USER = "user"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column of a table.

    Attributes:
        name: its key in the rows of the JSON, and in the request for an order.
        label: its heading.
        read: returns the value of a row, as the JSON has it.
        cell: how the page shows that value.
        order: returns what rows are ordered by; None means the value itself.
        is_sortable: whether rows can be ordered by it.
        is_searched: whether its text is searched.
        choices: its values, if a page can show only the rows with one of them.
    """

    name: str
    label: str
    read: Callable[[T], Any]
    cell: Cell = Cell.TEXT
    order: Callable[[T], Any] | None = None
    is_sortable: bool = True
    is_searched: bool = False
    choices: Sequence[str] = ()

    @property
    def key(self) -> Callable[[T], Any]:
        """Return the sort key."""
        return self.order or self.read

    @property
    def is_number(self) -> bool:
        """Whether its values are aligned to the right."""
        return self.cell in (Cell.COUNT, Cell.BYTES)
