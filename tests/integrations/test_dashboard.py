"""The dashboard and the alert rules of `examples/deploy`: they name metrics and labels that a scrape has."""

import json
import re
from pathlib import Path

import pytest

from channelstream.integrations.metrics.catalog import Metrics

DEPLOY = Path(__file__).parents[2] / "examples/deploy"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
ALERTS = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
OF_PROMETHEUS = {"up", "instance", "job", "le"}
"""A metric and labels that Prometheus adds, and the label of buckets."""
PROCESS = {
    f"process_{name}"
    for name in (
        "cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds", "virtual_memory_bytes",
    )
}  # fmt: skip
LABELS = {name: {*metric.value.labels, "worker"} for metric in Metrics for name in metric.names()}
NAMED_LABELS = re.compile(r"by \(([\w, ]+)\)|\{([^{}]*)\}")


def queries() -> list[str]:
    """Return every expression of the dashboard and of the rules."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*shown, *rules("expr")]


def rules(field: str) -> list[str]:
    return re.findall(rf"^ +{field}: (.*)$", ALERTS, re.MULTILINE)


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:channelstream|process)_\w+", query.replace('"channelstream"', "")))


def labels_in(query: str) -> set[str]:
    found = NAMED_LABELS.findall(query)
    grouped = {label.strip() for by, _ in found for label in by.split(",") if label.strip()}
    return grouped | {name for _, matched in found for name in re.findall(r"(\w+)=", matched)}


@pytest.mark.parametrize("query", queries())
def test_a_query_names_what_a_scrape_has(query: str) -> None:
    """Metrics, and the labels that each of them has."""
    named = metrics_in(query)
    assert named - PROCESS <= LABELS.keys()
    known = set[str]().union(OF_PROMETHEUS, *(LABELS.get(name, {"worker"}) for name in named))
    assert labels_in(query) <= known


def test_the_dashboard_shows_every_metric() -> None:
    """In a panel each, or beside others."""
    shown = set().union(*map(metrics_in, queries()))
    assert [metric.name for metric in Metrics if not metric.names() & shown] == []


def test_each_query_of_a_panel_is_there_once() -> None:
    """Under a letter of its own, by which Grafana tells them apart."""
    for panel in DASHBOARD["panels"]:
        for name in ("refId", "expr"):
            values = [target[name] for target in panel["targets"]]
            assert len(set(values)) == len(values), panel["title"]


def test_legends_have_labels_of_their_query() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            by_itself = {"instance", "worker"} if " by " not in target["expr"] else set[str]()
            assert shown <= labels_in(target["expr"]) | by_itself, panel["title"]


def test_each_rule_is_whole() -> None:
    """With a name of its own, an expression, a severity and a summary."""
    names = re.findall(r"^      - alert: (\w+)$", ALERTS, re.MULTILINE)
    assert len(set(names)) == len(names) == len(rules("expr")) == len(rules("annotations"))
    assert set(re.findall(r"severity: (\w+)", ALERTS)) == {"page", "warn"}


def test_a_name_that_does_not_exist_is_found() -> None:
    """And so is a label that a metric does not have."""
    assert metrics_in('rate(channelstream_no_such_total{job="channelstream"}[5m])') == {
        "channelstream_no_such_total"
    }
    assert labels_in('sum by (instance, le) (x{transport="sse"})') == {"instance", "le", "transport"}
