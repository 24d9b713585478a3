"""Checks of the running nodes: the probes, their clocks, and what their metrics say about versions and descriptors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from channelstream import __version__
from channelstream.cli import diagnosis
from channelstream.cli.doctor.asking import REFUSED, ask, failed, probe, read
from channelstream.cli.doctor.files import too_few
from channelstream.cli.doctor.finding import NODE_FLAG, URL_FLAG, Finding, Subject, fault, warning
from channelstream.cli.remote import Server
from channelstream.config import Settings
from channelstream.engines.factory import is_shared
from channelstream.errors import RequestFailed

DATE_S = 1.0
"""The header Date has whole seconds."""
NOTICED_SKEW_S = 5.0
"""A difference of clocks that no time service leaves."""
FULL = 0.8
"""The part of its descriptors from which a process counts as full."""
METRICS, NODES = "/metrics", "/admin/data/nodes"


def has_public_address(subject: Subject) -> bool:
    return subject.public is not None


async def probes(subject: Subject) -> Iterable[Finding]:
    """Report nodes that do not serve, or want no new clients."""
    return [finding for node in subject.nodes for finding in await _probes_of(subject, node)]


async def _probes_of(subject: Subject, node: Server) -> list[Finding]:
    try:
        answers = [await probe(node, subject.settings, path) for path in ("/healthz", "/readyz")]
    except RequestFailed as error:
        return [failed(error, f"correct the server, or pass another address with {NODE_FLAG}")]
    health, ready = answers
    if health.status_code != 200 or health.text != "ok":
        return [
            fault(
                diagnosis.refused(node.where, "/healthz", health),
                "name the address of a channelstream server",
            )
        ]
    if ready.status_code != 200:
        reason = ready.text[:40]
        return [fault(f"{node.where} is not ready: {reason}", "see docs/deployment.md, Health")]
    return []


async def public_address(subject: Subject) -> Iterable[Finding]:
    """Report a proxy that does not reach the service. Its probes may be closed to the public: it only has to answer."""
    public = subject.entrance
    try:
        answer = await probe(public, subject.settings, "/healthz", URL_FLAG)
    except RequestFailed as error:
        return [failed(error, "correct the proxy, or the address of --url")]
    if answer.status_code >= 500 or answer.is_redirect:
        return [
            fault(
                diagnosis.refused(public.where, "/healthz", answer),
                "correct the proxy, or the address of --url",
            )
        ]
    return []


async def clocks(subject: Subject) -> Iterable[Finding]:
    """Report clocks that differ from that of this machine, which should be the application's, or from each other."""
    skews = {}
    for node in subject.nodes:
        before = subject.wall()
        try:
            answer = await probe(node, subject.settings, "/healthz")
        except RequestFailed:
            continue  # `probes` reports it.
        after = subject.wall()
        with suppress(ValueError):
            skews[node.where] = _skew(
                parsedate_to_datetime(answer.headers.get("date", "")).timestamp(), before, after
            )
    return [*_from_here(skews, subject.settings), *_among(skews)]


def _skew(at: float, before: float, after: float) -> float:
    """Return by how many seconds a clock is ahead at least, or behind if it is negative."""
    return min(0.0, at + DATE_S - before) or max(0.0, at - after)


def _from_here(skews: Mapping[str, float], settings: Settings) -> Iterator[Finding]:
    for where, skew_s in skews.items():
        # A server that is ahead sees signatures as old, one that is behind sees them ahead.
        bound_s = settings.signature_max_age_s if skew_s > 0 else settings.signature_max_ahead_s
        report = fault if abs(skew_s) >= bound_s and settings.validate_requests else warning
        if abs(skew_s) >= min(NOTICED_SKEW_S, bound_s):
            yield report(
                f"the clock of {where} differs from the one here by {skew_s:+.0f} s; signatures may differ by {bound_s:g} s",
                "keep both clocks with NTP; run doctor at the machine of the application",
            )


def _among(skews: Mapping[str, float]) -> Iterator[Finding]:
    if skews and max(skews.values()) - min(skews.values()) >= NOTICED_SKEW_S:
        shown = ", ".join(f"{where} {skew_s:+.0f} s" for where, skew_s in skews.items())
        yield warning(f"the clocks of the nodes differ: {shown}", "keep all clocks with NTP")


class _Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class _Scraped:
    """The metrics of a node, or of all workers of a machine."""

    node: Server
    samples: Sequence[_Sample]

    def labels(self, name: str, label: str) -> list[str]:
        return [sample.labels.get(label, "") for sample in self.samples if sample.name == name]

    def values(self, name: str) -> list[float]:
        return [sample.value for sample in self.samples if sample.name == name]


async def nodes(subject: Subject) -> Iterable[Finding]:
    """Report what the metrics of the nodes say: versions, workers, descriptors; and nodes that are missing."""
    settings = subject.settings
    try:
        scraped = [await _scrape(node, settings) for node in subject.nodes]
        leases = await _leases(subject.nodes[0], settings) if is_shared(settings.engine) else []
    except RequestFailed as error:
        return [failed(error, REFUSED)]
    processes = sum(len(each.values("channelstream_build_info")) for each in scraped)
    of_each = (finding for each in scraped for finding in _of(each, settings))
    return [*_versions(scraped), *of_each, *_members(leases, processes)]


async def _scrape(node: Server, settings: Settings) -> _Scraped:
    from prometheus_client.parser import text_string_to_metric_families

    answer = await ask(node, settings, "GET", METRICS)
    if answer.status_code != 200:
        raise RequestFailed(diagnosis.refused(node.where, METRICS, answer))
    families = read(node, METRICS, lambda: list(text_string_to_metric_families(answer.text)))
    return _Scraped(
        node, [_Sample(each.name, each.labels, each.value) for every in families for each in every.samples]
    )


def _versions(scraped: Iterable[_Scraped]) -> Iterator[Finding]:
    by_node = {
        each.node.where: sorted(set(each.labels("channelstream_build_info", "version"))) for each in scraped
    }
    versions = {version for found in by_node.values() for version in found}
    if len(versions) > 1:
        shown = ", ".join(f"{where} {' and '.join(found)}" for where, found in by_node.items())
        yield fault(
            f"the nodes run different versions: {shown}", "finish the upgrade: start the older ones again"
        )
    elif versions and versions != {__version__}:
        yield warning(
            f"the nodes run {versions.pop()}, and this doctor is of {__version__}",
            "use the version of the nodes",
        )


def _of(scraped: _Scraped, settings: Settings) -> Iterator[Finding]:
    where = scraped.node.where
    if 0.0 in scraped.values("channelstream_worker_up"):
        yield fault(f"a worker of {where} does not answer the others", "read the log of that server")
    limits, opened = scraped.values("process_max_fds"), scraped.values("process_open_fds")
    for limit, count in zip(limits, opened, strict=False):
        for each in too_few(int(limit), settings):
            yield Finding(each.level, f"{where}: {each.text}", each.advice)
        if count > FULL * limit:
            yield warning(
                f"{where} has {count:g} of {limit:g} descriptors open", "raise LimitNOFILE, or add a node"
            )


async def _leases(node: Server, settings: Settings) -> list[bool]:
    """Return for each node that shares the engine whether its lease runs."""
    answer = await ask(node, settings, "GET", NODES)
    if answer.status_code != 200:
        raise RequestFailed(diagnosis.refused(node.where, NODES, answer))
    return read(node, NODES, lambda: [bool(row["is_alive"]) for row in answer.json()["rows"]])


def _members(leases: Sequence[bool], processes: int) -> Iterator[Finding]:
    alive = sum(leases)
    if dead := len(leases) - alive:
        yield warning(
            f"{dead} of {len(leases)} nodes sent no heartbeat within the lease",
            "see /admin/nodes; read their logs",
        )
    if alive > processes:
        yield warning(
            f"{alive} nodes share the engine, and {processes} were examined",
            "name the others with --node URL",
        )
