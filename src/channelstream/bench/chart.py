"""A report as a self-contained SVG chart, in light and dark: latency by percentile, deliveries a second over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log10
from xml.sax.saxutils import escape

from channelstream.bench.results import Delivery, Percentiles, Report

WIDTH, PANEL_HEIGHT = 860, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 40, 45
_TITLE_HEIGHT, _LEGEND_LINE = 64, 20
_COLORS = ("#2a6fdb", "#d9822b", "#1f9d6b", "#b04ac0", "#c2363b", "#7a7f3a")

_STYLE = """
  .ground { fill: #ffffff } .ink { fill: #1c2330 } .faint { fill: #5b6575 } .grid { stroke: #dfe3ea; stroke-width: 1 }
  text { font: 13px system-ui, sans-serif } .title { font-size: 17px; font-weight: 600 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round } .dashed { stroke-dasharray: 5 4 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181f } .ink { fill: #e8ebf0 } .faint { fill: #a3acba } .grid { stroke: #2d3440 }
  }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a panel. The line of a reference is dashed and has the color of its step."""

    label: str
    color: str
    is_dashed: bool
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """A coordinate system. Its axes reach from the least to the greatest value of `x_marks` and `y_marks`."""

    title: str
    series: Sequence[Series]
    x_marks: Sequence[tuple[float, str]]
    y_marks: Sequence[tuple[float, str]]


def chart(report: Report) -> str:
    """Return the SVG document. A step without deliveries and probes is shown by name only."""
    panels = [panel for panel in (_latency_panel(report), _timeline_panel(report)) if panel is not None]
    entries = _legend(panels)
    top = _TITLE_HEIGHT + _LEGEND_LINE * max(1, len(entries))
    height = top + PANEL_HEIGHT * len(panels)
    body = [*_head(report), *entries]
    for number, panel in enumerate(panels):
        body += _panel(panel, top + number * PANEL_HEIGHT)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="{escape(_title(report), {chr(34): "&quot;"})}">\n<style>{_STYLE}</style>\n'
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _title(report: Report) -> str:
    return f"channelstream bench: {report.scenario}"


def _head(report: Report) -> Iterator[str]:
    made_on = report.machine
    yield _text(_LEFT, 26, _title(report), "ink title")
    yield _text(
        _LEFT, 46, f"{made_on.cpu}, {made_on.cores} core(s), {made_on.python}, {report.time}", "faint"
    )


def _legend(panels: Sequence[Panel]) -> list[str]:
    if not panels:
        return [
            _text(
                _LEFT,
                _TITLE_HEIGHT + 10,
                "Nothing was delivered in this scenario; its figures are in the JSON.",
                "ink",
            )
        ]
    lines = []
    for number, series in enumerate(panels[0].series):
        y = _TITLE_HEIGHT + number * _LEGEND_LINE + 6
        lines.append(_line(series, f"M{_LEFT} {y - 4}h28"))
        lines.append(_text(_LEFT + 36, y, series.label, "ink"))
    return lines


# -- content


def _latency_panel(report: Report) -> Panel | None:
    """Return the percentiles on a logarithmic scale: 90, 99, 99.9 %..."""
    found = [
        Series(label, color, is_dashed, _percentile_points(figures))
        for label, color, is_dashed, figures in _percentiles(report)
        if figures.max > 0
    ]
    if not found:
        return None
    marks = [(0.0, "0"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9"), (4.0, "max")]
    marks.insert(1, (log10(2), "p50"))
    lows = min(y for series in found for _, y in series.points)
    highs = max(y for series in found for _, y in series.points)
    return Panel("Latency in ms, by percentile", found, marks[1:], _log_marks(lows, highs))


def _percentiles(report: Report) -> Iterator[tuple[str, str, bool, Percentiles]]:
    for number, step in enumerate(report.steps):
        color = _COLORS[number % len(_COLORS)]
        for name, is_dashed, measured in (
            (step.label, False, step.measured),
            (f"{step.label}, reference", True, step.reference),
        ):
            if measured is None:
                continue
            if measured.delivery is not None:
                yield name, color, is_dashed, measured.delivery.latency_ms
            elif measured.stall_ms is not None:
                yield f"{name}: a small request", color, is_dashed, measured.stall_ms


def _percentile_points(figures: Percentiles) -> list[tuple[float, float]]:
    values = (figures.p50, figures.p90, figures.p99, figures.p99_9, figures.max)
    return [
        (x, log10(max(value, 0.001))) for x, value in zip((log10(2), 1.0, 2.0, 3.0, 4.0), values, strict=True)
    ]


def _log_marks(low: float, high: float) -> list[tuple[float, str]]:
    """Return the powers of ten from below `low` to above `high`, which are logarithms."""
    first, last = int(low // 1), int(-(-high // 1))
    return [(float(power), f"{10.0**power:g}") for power in range(first, max(last, first + 1) + 1)]


def _timeline_panel(report: Report) -> Panel | None:
    found = [series for series in _timelines(report) if len(series.points) > 1]
    if not found:
        return None
    end = max(x for series in found for x, _ in series.points)
    most = max(y for series in found for _, y in series.points)
    return Panel("Deliveries per second, over time in s", found, _even_marks(end, ""), _even_marks(most, "k"))


def _timelines(report: Report) -> Iterator[Series]:
    for number, step in enumerate(report.steps):
        color = _COLORS[number % len(_COLORS)]
        yield Series(step.label, color, False, _timeline_of(step.measured.delivery))
        if step.reference is not None:
            yield Series(f"{step.label}, reference", color, True, _timeline_of(step.reference.delivery))


def _timeline_of(delivery: Delivery | None) -> Sequence[tuple[float, float]]:
    return delivery.timeline if delivery is not None else ()


def _even_marks(most: float, unit: str) -> list[tuple[float, str]]:
    """Return marks from 0 to beyond a value, at multiples of 1, 2 or 5 times a power of ten; `k` means thousands."""
    power = 10.0 ** int(log10(most / 4) // 1) if most > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= most)
    count = int(-(-most // step)) or 1
    scale = 1000 if unit == "k" and most >= 1000 else 1
    return [(n * step, f"{n * step / scale:g}{unit if scale > 1 and n else ''}") for n in range(count + 1)]


# -- drawing


def _panel(panel: Panel, top: float) -> Iterator[str]:
    left, right = _LEFT, WIDTH - _RIGHT
    upper, lower = top + _TOP, top + PANEL_HEIGHT - _BOTTOM
    x_at = _Scale(panel.x_marks, left, right)
    y_at = _Scale(panel.y_marks, lower, upper)
    yield _text(left, top + 22, panel.title, "ink")
    for value, label in panel.y_marks:
        y = y_at(value)
        yield f'<path class="grid" d="M{left} {y:.1f}H{right}"/>'
        yield _text(left - 8, y + 4, label, "faint", "end")
    for value, label in panel.x_marks:
        yield _text(x_at(value), lower + 20, label, "faint", "middle")
    for series in panel.series:
        points = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in series.points)
        yield _line(series, f"M{points}")


class _Scale:
    """Converts a value to a coordinate."""

    def __init__(self, marks: Sequence[tuple[float, str]], low: float, high: float) -> None:
        self._first, self._last = marks[0][0], marks[-1][0]
        self._low, self._high = low, high

    def __call__(self, value: float) -> float:
        share = (value - self._first) / (self._last - self._first)
        return self._low + share * (self._high - self._low)


def _line(series: Series, path: str) -> str:
    kind = "line dashed" if series.is_dashed else "line"
    return f'<path class="{kind}" stroke="{series.color}" d="{path}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
