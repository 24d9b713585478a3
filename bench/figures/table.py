"""Tables of medians: what a part returns, what is written as JSON and shown as Markdown."""

from collections.abc import Mapping, Sequence
from math import floor, log10
from statistics import median

from msgspec import Struct

Figures = Mapping[str, float]
"""The figures of one row in one round, by the title of their column."""


class Row(Struct, frozen=True):
    """What was measured, and its figures in the order of the columns."""

    name: str
    figures: list[float]


class Table(Struct, frozen=True):
    """The figures of one part.

    Attributes:
        id: what it is called in the document.
        title: a sentence that says what was done.
        columns: what the figures are, with their units.
    """

    id: str
    title: str
    columns: list[str]
    rows: list[Row]

    def figure(self, row: str, column: str) -> float:
        """Return one figure, as others are reckoned from it.

        Raises:
            StopIteration: there is no row of that name.
        """
        found = next(each for each in self.rows if each.name == row)
        return found.figures[self.columns.index(column)]


def medians(id_: str, title: str, rounds: Mapping[str, Sequence[Figures]]) -> Table:
    """Make a table of what was measured in rounds, by the name of the row."""
    columns = list(next(iter(rounds.values()))[0])
    rows = [
        Row(name, [significant(median(each[column] for each in some)) for column in columns])
        for name, some in rounds.items()
    ]
    return Table(id_, title, columns, rows)


def significant(number: float) -> float:
    """Round to three digits, or to whole numbers: the noise of a shared machine leaves no more."""
    if not number:
        return 0.0
    return round(number, max(0, 2 - floor(log10(abs(number)))))


def markdown(table: Table) -> str:
    """The table for people, under its title."""
    return f"{table.title}\n\n{grid(table)}\n"


def grid(table: Table) -> str:
    head = f"| | {' | '.join(table.columns)} |\n| --- |{' --: |' * len(table.columns)}"
    return "\n".join(
        [head, *(f"| {row.name} | {' | '.join(map(_shown, row.figures))} |" for row in table.rows)]
    )


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure == int(figure) else f"{figure:,g}"
