"""The alert rules and the dashboard of `examples/deploy`, as a real Prometheus evaluates them on a real server.

Without `prometheus` and `promtool` on the PATH they are skipped (on Debian: apt-get install prometheus).
"""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import RunningServer, launch
from tests.http_client import http
from tests.waiting import PATIENCE_S, eventually

from channelstream_client.testing.port import HeldPort

DEPLOY = Path(__file__).parents[2] / "examples/deploy"
PANELS = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
MAY_HAVE_NOTHING = ("channelstream_engine_errors_total", "channelstream_shed_total")
"""Counters that a service without a fault does not have."""
FILE = """\
global: {{scrape_interval: 200ms, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: channelstream
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no prometheus and promtool on the PATH",
)
pytestmark = [pytest.mark.slow, needs_prometheus]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One with calls of its engine, and with some of all that is counted."""
    state = tmp_path_factory.mktemp("state") / "state.db"
    running = launch("--metrics-allow=127.0.0.1", f"--engine=sqlite:///{state}", "--poll-timeout-s=0.1")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def prometheus(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the server."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(FILE.format(rules=DEPLOY / "alerts.yaml", port=server.port))
    with HeldPort() as port:
        command = [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port.number}",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port.number}"
            eventually(lambda: _is_ready(url), "Prometheus does not start")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return http.get(f"{url}/-/ready").status_code == 200
    return False


def use(server: RunningServer) -> None:
    """Connect, publish, receive by a poll that replays and loses, and disconnect; call with a wrong signature."""
    made = server.post("/connect", {"username": "ann", "channels": ["news"]})
    poll = f"{server.url}/listen?conn_id={made['conn_id']}"
    server.post("/message", [{"user": "app", "channel": "news", "message": {}}])
    assert http.get(f"{poll}&since={made['position']}").status_code == 200
    assert http.get(f"{poll}&since=elsewhere-0").status_code == 200
    with http.stream("GET", f"{server.url}/sse?conn_id={made['conn_id']}") as stream:
        next(stream.iter_lines())
        server.post("/disconnect", {"conn_id": made["conn_id"]})
    assert http.post(f"{server.url}/message", json=[]).status_code == 403


def ask(prometheus: str, path: str, **query: str) -> Any:
    answer = http.get(f"{prometheus}/api/v1/{path}", params=query).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", DEPLOY / "alerts.yaml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr


def test_each_query_of_the_dashboard_has_data(server: RunningServer, prometheus: str) -> None:
    """Unless it shows faults, which there are none of."""

    def empty() -> list[str]:
        use(server)
        found = {each: ask(prometheus, "query", query=_filled(each))["result"] for each in QUERIES}
        return [
            each
            for each, result in found.items()
            if not result and not any(map(each.count, MAY_HAVE_NOTHING))
        ]

    eventually(lambda: not empty(), "a panel stays empty")


def _filled(query: str) -> str:
    """Return a query of the dashboard with the values that Grafana gives its variables."""
    return query.replace("$instance", ".*").replace("$__rate_interval", "1m")


def test_each_rule_is_evaluated(prometheus: str) -> None:
    """Without an error."""

    def health() -> set[str]:
        groups = ask(prometheus, "rules")["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    eventually(lambda: health() == {"ok"}, "a rule is not evaluated")
