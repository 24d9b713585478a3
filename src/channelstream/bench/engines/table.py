"""Tables of medians: results of the parts, written as JSON and Markdown."""

from collections.abc import Mapping, Sequence
from math import floor, log10
from statistics import median

from msgspec import Struct

Figures = Mapping[str, float]
"""The figures of one row in one round, by the title of the column."""


class Row(Struct, frozen=True):
    """The name of a measurement, and its figures in the order of the columns."""

    name: str
    figures: list[float]


class Table(Struct, frozen=True):
    """The figures of one part.

    Attributes:
        id: its name in the document.
        title: a sentence that describes the measurement.
        columns: names of the figures, with units.
    """

    id: str
    title: str
    columns: list[str]
    rows: list[Row]

    def figure(self, row: str, column: str) -> float:
        """Return one figure, for the estimates.

        Raises:
            StopIteration: there is no row with this name.
        """
        found = next(each for each in self.rows if each.name == row)
        return found.figures[self.columns.index(column)]


def medians(id_: str, title: str, rounds: Mapping[str, Sequence[Figures]]) -> Table:
    """Return a table with the medians of the rounds, by the name of the row."""
    columns = list(next(iter(rounds.values()))[0])
    rows = [
        Row(name, [significant(median(each[column] for each in some)) for column in columns])
        for name, some in rounds.items()
    ]
    return Table(id_, title, columns, rows)


def significant(number: float) -> float:
    """Round to three digits, or to a whole number. The noise of a shared machine makes further digits meaningless."""
    if not number:
        return 0.0
    return round(number, max(0, 2 - floor(log10(abs(number)))))


def markdown(table: Table) -> str:
    """Return the table as Markdown, under its title."""
    return f"{table.title}\n\n{grid(table)}\n"


def grid(table: Table) -> str:
    head = f"| | {' | '.join(table.columns)} |\n| --- |{' --: |' * len(table.columns)}"
    return "\n".join(
        [head, *(f"| {row.name} | {' | '.join(map(_shown, row.figures))} |" for row in table.rows)]
    )


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure == int(figure) else f"{figure:,g}"
