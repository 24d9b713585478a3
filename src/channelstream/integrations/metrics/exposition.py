"""The text of a scrape, written by prometheus-client. It is called in a thread, since it takes milliseconds."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from channelstream.integrations.metrics.catalog import WORKER
from channelstream.integrations.metrics.samples import Family, Sample

OPENMETRICS = "application/openmetrics-text"
VERSION = "1.0.0"
"""The version of OpenMetrics that is written, whatever a scraper asks for: its text never gets into a header."""


class Scrape(NamedTuple):
    """An answer to a scraper."""

    body: bytes
    content_type: str


class _Snapshot:
    """Families that were collected already, as prometheus-client reads a registry."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        from prometheus_client import Metric

        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def write(families: Iterable[Family], accept: str) -> Scrape:
    """Return the text in the form that a scraper prefers: OpenMetrics if it names that, else Prometheus' own."""
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
    from prometheus_client.openmetrics import exposition

    snapshot, openmetrics = cast(Any, _Snapshot(families)), cast(Any, exposition)
    if any(part.partition(";")[0].strip() == OPENMETRICS for part in accept.split(",")):
        text = openmetrics.generate_latest(snapshot, version=VERSION)
        return Scrape(text, f"{OPENMETRICS}; version={VERSION}; charset=utf-8")
    return Scrape(generate_latest(snapshot), CONTENT_TYPE_PLAIN_0_0_4)


def merged(workers: Sequence[tuple[str, Sequence[Family]]]) -> list[Family]:
    """Return the metrics of several workers as one list, each sample with the number of its worker."""
    by_name: dict[str, Family] = {}
    for worker, families in workers:
        for family in families:
            known = by_name.setdefault(family.name, Family(family.name, family.kind, family.text, []))
            known.samples.extend(
                Sample(each.name, {WORKER: worker, **each.labels}, each.value) for each in family.samples
            )
    return list(by_name.values())
