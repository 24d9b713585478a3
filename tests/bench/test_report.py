"""The report: its JSON, its text and its chart."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from channelstream.bench import scenarios
from channelstream.bench.chart import chart
from channelstream.bench.load import Load
from channelstream.bench.measure import timeline
from channelstream.bench.processes import machine
from channelstream.bench.results import (
    FORMAT,
    Delivery,
    Measured,
    Memory,
    Percentiles,
    Rate,
    Report,
    StepReport,
    medians,
    ratios,
)
from channelstream.bench.scenarios import SCENARIOS
from channelstream.bench.text import report_text

LATENCY = Percentiles(2000, 1.5, 2.5, 9.0, 12.0, 20.25)


@dataclass
class Made:
    """A measurement that a test can make worse or incomplete."""

    lost: int = 0
    closed: int = 0
    cpu_us: float | None = 2.0
    load: float = 0.5

    def delivery(self) -> Delivery:
        return Delivery(
            expected=2000, lost=self.lost, duplicated=0, out_of_order=0, position_disorder=0,
            closed={"close code 4008": self.closed} if self.closed else {},
            rate=Rate(2000, 0.5, 4000.0, self.cpu_us), bytes_each=370.0, latency_ms=LATENCY,
            distribution=[(1.5, 1000), (20.0, 1000)], timeline=[(0.05, 3000.0), (0.1, 5000.0)],
            generator_load=self.load,
        )  # fmt: skip

    def measured(self) -> Measured:
        return Measured(
            connect=Rate(20, 0.1, 200.0, self.cpu_us),
            attach=Rate(20, 0.1, 200.0, self.cpu_us),
            memory=Memory(1000, 1100, 5.0),
            publish=Rate(100, 0.5, 200.0, None),
            requests=100,
            delivery=self.delivery(),
        )


def report_of(*measured: Measured, reference: Measured | None = None) -> Report:
    steps = [
        StepReport(f"step <{number}>", Load(clients=20), each, reference, ratios(each, reference))
        for number, each in enumerate(measured)
    ]
    return Report(
        FORMAT, "1.0", "2026-01-01T00:00:00+00:00", "custom", machine(), "started for the run", steps
    )


def test_a_ratio_is_of_what_both_have_measured() -> None:
    """A ratio is measured / reference, of what both have."""
    reference = Made(cpu_us=8.0).measured()
    found = ratios(Made(cpu_us=2.0).measured(), reference)
    assert (found["cpu"], found["memory"]) == (0.25, 1.0)
    assert "cpu" not in ratios(Made(cpu_us=None).measured(), reference)
    assert ratios(reference, None) == {}


def opened(cpu_us: float | None, kb: float, turn_ms: float) -> Measured:
    """One round of a run that opens streams."""
    return Measured(
        attach=Rate(20, 0.1, 200.0, cpu_us), memory=Memory(1000, 1100, kb), longest_turn_ms=turn_ms
    )


def test_a_figure_of_several_rounds_is_their_median() -> None:
    """Each figure is the median of its own; of the longest turns it is the longest. One round stays as it is."""
    rounds = [opened(9.0, 3.0, 1.0), opened(1.0, 4.0, 7.0), opened(2.0, 2.0, 3.0)]
    assert medians(rounds) == opened(2.0, 3.0, 7.0)
    assert medians(rounds[:1]) is rounds[0]
    assert medians([opened(None, 3.0, 1.0)] * 3) == opened(None, 3.0, 1.0)
    published = Measured(publish=Rate(100, 0.5, 200.0, 2.0), requests=100)
    assert medians([published] * 2) == published


def test_deliveries_have_no_medians() -> None:
    """A scenario of rounds is measured once if messages are delivered, whose faults must all be reported."""
    scenario = SCENARIOS["connect"]
    assert [step.turns for step in scenario.steps] == [5]
    assert [step.turns for step in scenario.changed({"messages": 10}).steps] == [1]
    assert [step.turns for step in scenario.changed({"idle_s": 1.0}).steps] == [1]


@pytest.mark.parametrize(
    ("name", "changes", "reference"),
    [
        ("publish", {}, "api"),
        ("publish", {"clients": 5}, None),
        ("single", {}, "broadcast"),
        ("single", {"deflate": True}, None),
        ("single", {"transport": "sse"}, "broadcast"),
        ("single", {"transport": "poll"}, None),
        ("poll", {}, None),
    ],
)
def test_a_load_is_not_compared_with_what_no_reference_does(
    name: str, changes: dict[str, Any], reference: str | None
) -> None:
    """That for calls has no clients, and none compresses or answers polls."""
    assert {step.comparable for step in SCENARIOS[name].changed(changes).steps} == {reference}


def test_a_reference_is_missing_only_where_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "missing_for", lambda kind: f"{kind} is missing")
    found = [SCENARIOS["publish"].changed({"clients": clients}).missing_reference() for clients in (0, 5)]
    assert found == ["api is missing", ""]


def test_json_is_complete() -> None:
    """A document is read back as the same report, with no key too many or too few."""
    report = report_of(Made().measured(), reference=Made().measured())
    document = msgspec.json.encode(report)
    assert msgspec.json.decode(document, type=Report) == report


def test_a_lost_message_or_stream_makes_a_report_wrong() -> None:
    """One lost message, or one stream that was cut, makes a report wrong."""
    assert report_of(Made().measured(), Measured()).is_right
    assert not report_of(Made().measured(), Made(lost=1).measured()).is_right
    assert not report_of(Made(closed=1).measured()).is_right


def test_text_has_the_figures() -> None:
    """The text has the measured figure, the reference's and the ratio."""
    text = report_text(report_of(Made(cpu_us=2.0).measured(), reference=Made(cpu_us=8.0).measured()))
    line = next(line for line in text.splitlines() if "CPU per delivery" in line)
    assert line.split()[-5:] == ["2.00", "µs", "8.00", "µs", "0.25"]
    assert "ended early" not in text


def test_text_compares_steps() -> None:
    """Later steps are compared with the first."""
    text = report_text(report_of(Made(cpu_us=2.0).measured(), Made(cpu_us=3.0).measured()))
    assert "step <1>, compared with step <0>: 1.00 x the bytes and 1.50 x the CPU per delivery" in text


def test_text_says_what_qualifies_the_figures() -> None:
    """Streams that were cut, and clients that had no processor time to spare, are reported."""
    text = report_text(report_of(Made(closed=3, load=0.97).measured()))
    assert "3 stream(s) ended early: close code 4008" in text
    assert "97% of a core" in text


def test_text_says_that_figures_are_medians() -> None:
    """Of several rounds the report has medians."""
    one = report_of(opened(2.0, 3.0, 1.0)).steps[0]
    assert "medians" not in report_text(report_of(one.measured))
    report = msgspec.structs.replace(report_of(one.measured), steps=[msgspec.structs.replace(one, rounds=5)])
    assert "; medians of 5 rounds" in report_text(report)


def test_a_figure_that_was_not_measured_is_left_out() -> None:
    """Figures that were not measured are left out."""
    text = report_text(report_of(Made(cpu_us=None).measured()))
    assert "CPU" not in text.replace(machine().cpu, "")


@pytest.mark.parametrize(
    "report",
    [
        report_of(Made().measured()),
        report_of(Made().measured(), Made().measured(), reference=Made().measured()),
        report_of(Measured(stall_ms=LATENCY)),
        report_of(Measured()),
    ],
)
def test_chart_is_svg(report: Report) -> None:
    """The chart is one well-formed document that loads nothing and knows the dark."""
    svg = chart(report)
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in svg
    assert "href" not in svg
    assert svg.count("http") == 1


def test_chart_shows_every_step() -> None:
    """Each step has a line in both panels and its name, escaped, in the legend."""
    root = ET.fromstring(chart(report_of(Made().measured(), reference=Made().measured())))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    lines = [
        path for path in root.iter("{http://www.w3.org/2000/svg}path") if "line" in path.get("class", "")
    ]
    assert {"step <0>", "step <0>, reference"} <= set(texts)
    assert len(lines) == 2 + 2 * 2


def test_a_timeline_has_the_rate_between_two_samples() -> None:
    """Each point is the rate between two samples; messages after the end are left out."""
    samples = [(0.0, 0), (0.5, 100), (1.0, 100), (9.0, 100)]
    assert timeline(samples, 1.0) == [(0.5, 200.0), (1.0, 0.0)]


def test_timeline_is_bounded() -> None:
    """A long run has no more points than a short one."""
    assert len(timeline([(float(n), n) for n in range(10_000)], 10_000)) <= 400
