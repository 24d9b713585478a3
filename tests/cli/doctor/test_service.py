"""`doctor` finds what is wrong with real servers and proxies, and nothing where all is well."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from tests.cli.doctor.report import PATIENT, SECRETS, Doctor, configured, made_certificate, texts
from tests.conftest import RUNNING, SECRET, RunningServer, StartServer
from tests.e2e.clocks import SHIFTED
from tests.fleet import Fleet
from tests.proxies import Proxy

from channelstream.cli.doctor import service
from channelstream.cli.doctor.finding import Level, Subject
from channelstream.cli.remote import Server
from channelstream.cli.signing_key import SigningKey
from channelstream.config import Settings
from channelstream_client.testing.port import HeldPort


def test_a_healthy_server_has_no_finding(doctor: Doctor, one_node: RunningServer) -> None:
    report = doctor("-p", str(one_node.port), *PATIENT)
    assert (report.code, report.findings) == (0, [])


@pytest.mark.slow
def test_an_expired_certificate_is_found(tmp_path: Path, doctor: Doctor, start_server: StartServer) -> None:
    """In its file, and as clients are served it."""
    flags = made_certificate(tmp_path, -1)
    assert configured(doctor, *flags).has("fault", "certificate file", "certificate has expired")
    url = f"https://127.0.0.1:{start_server(*flags).port}"
    server = Server(url, SigningKey("", SECRET), certfile=flags[1])
    [text] = texts(Subject(Settings(), nodes=[server]), "certificate", "sse")
    assert text == f"clients refuse the certificate of {url}: certificate has expired"


def test_a_server_that_does_not_run_is_found_once(doctor: Doctor) -> None:
    """The checks after it would only repeat it."""
    with HeldPort() as port:
        report = doctor("-p", str(port.number))
    assert [found[:2] for found in report.findings] == [("fault", "probes")]
    assert report.has("fault", "probes", f"nothing listens at http://127.0.0.1:{port.number}")
    assert "--url" not in report.text
    assert '"start the server, or pass its address with --node"' in report.text


def test_a_public_address_where_nothing_listens(doctor: Doctor, one_node: RunningServer) -> None:
    """It is named with the flag of this address, not with that of a node."""
    with HeldPort() as port:
        report = doctor("-p", str(one_node.port), "--url", f"http://127.0.0.1:{port.number}")
    assert '"start the server, or pass its address with --url"' in report.text
    assert "--node" not in report.text


def test_another_secret_is_found_once(doctor: Doctor, one_node: RunningServer) -> None:
    report = doctor("-p", str(one_node.port), "-s", "another-secret-of-the-tests")
    assert report.code == 1
    assert [found[:2] for found in report.findings] == [("fault", "signed call")]
    assert report.has("fault", "signed call", "/connect answered 401")
    assert "another-secret" not in report.text


@pytest.mark.parametrize(
    ("seconds", "level", "text"),
    [
        (90, Level.FAULT, "by -"),
        (20, Level.WARNING, "by -"),
        (-90, Level.WARNING, "by +"),
        (-150, Level.FAULT, "by +"),
    ],
)
def test_a_clock_that_differs_is_found(
    one_node: RunningServer, seconds: int, level: Level, text: str
) -> None:
    """It is a fault from what signatures allow: a server that is behind sees them ahead, another one old."""
    settings = Settings(secret=SECRET, signature_max_ahead_s=60, signature_max_age_s=120)
    nodes = [Server(one_node.url, SECRET)]
    subject = Subject(settings, nodes=nodes, wall=lambda: time.time() + seconds)
    [finding] = asyncio.run(service.clocks(subject))
    assert finding.level is level
    assert text in finding.text


OTHER_VERSION = (
    "import sys, channelstream; channelstream.__version__ = '0.9'\n"
    "from channelstream.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def old_node() -> Iterator[str]:
    """Address of a server of another version, whose clock is 20 s ahead."""
    command = [sys.executable, "-c", SHIFTED.format(seconds=20) + OTHER_VERSION, "-p", "0", *SECRETS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = next(filter(None, map(RUNNING.search, process.stderr)))
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()


@pytest.mark.slow
def test_nodes_that_differ_are_found(doctor: Doctor, one_node: RunningServer, old_node: str) -> None:
    """In their versions and in their clocks.

    The old one has started by its clock in the future, so it takes no whole request that is signed by ours yet.
    """
    signing = ("--request-signing", "old")
    report = doctor("--node", one_node.url, "--node", old_node, *signing, *PATIENT)
    assert report.has("fault", "nodes", "the nodes run different versions")
    assert report.has("fault", "nodes", f"{old_node} 0.9")
    assert report.has("warning", "clocks", "the clocks of the nodes differ")
    assert doctor("--node", old_node, *signing).has("warning", "nodes", "the nodes run 0.9, and this doctor")


@pytest.mark.nodes(3)
def test_nodes_that_were_not_examined_are_found(doctor: Doctor, server: Fleet) -> None:
    """They are those that share the engine; its address is of no matter to the check."""
    first, *others = (("--node", node.url) for node in server.nodes)
    engine = ("--engine", "redis://127.0.0.1:1")
    assert doctor(*engine, *first).has("warning", "nodes", "3 nodes share the engine, and 1 were examined")
    report = doctor(*engine, *first, *chain(*others), *PATIENT)
    assert {check for _, check, _ in report.findings} == {"redis", "secrets"}


@pytest.mark.slow
def test_a_server_that_demands_https_is_examined_as_its_proxy_asks(
    doctor: Doctor, start_server: StartServer
) -> None:
    flags = ("--enforce-https", "true", "--trusted-proxies", "127.0.0.1")
    server = start_server(*flags)
    assert doctor("-p", str(server.port), *flags, *PATIENT).findings == []


@pytest.fixture
def start_proxy(tmp_path: Path, one_node: RunningServer) -> Iterator[Callable[..., str]]:
    started = []

    def start(*changes: tuple[str, str], port: int = one_node.port) -> str:
        directory = tmp_path / f"proxy{len(started)}"
        directory.mkdir()
        started.append(Proxy(directory, "nginx", port, changes))
        return f"http://127.0.0.1:{started[-1].port}"

    yield start
    for proxy in started:
        proxy.stop()


PROXIED = ("--trusted-proxies", "127.0.0.1")


@pytest.mark.slow
def test_the_shipped_proxy_has_no_finding(
    doctor: Doctor, one_node: RunningServer, start_proxy: Callable[..., str]
) -> None:
    report = doctor("-p", str(one_node.port), "--url", start_proxy(), *PROXIED, *PATIENT)
    assert (report.code, report.findings) == (0, [])


@pytest.mark.slow
def test_a_proxy_that_buffers_or_drops_upgrades_is_found(
    doctor: Doctor, one_node: RunningServer, start_proxy: Callable[..., str]
) -> None:
    url = start_proxy(
        (r"proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"),
        (r"    proxy_set_header Upgrade \$http_upgrade;\n", ""),
    )
    report = doctor("-p", str(one_node.port), "--url", url, *PROXIED)
    assert report.has("fault", "websocket", f"{url} opens no WebSocket: ")
    assert report.has("fault", "sse", f"{url}: the first bytes of the event stream do not arrive")
    assert "conn_id=" not in report.text


@pytest.mark.slow
def test_a_proxy_that_refuses_a_path_is_not_said_to_buffer(
    doctor: Doctor, one_node: RunningServer, start_proxy: Callable[..., str]
) -> None:
    url = start_proxy((r"    location / \{", "    location = /sse { return 403; }\n    location / {"))
    report = doctor("-p", str(one_node.port), "--url", url, *PROXIED, *PATIENT)
    assert report.has("fault", "sse", f"{url} opens no event stream: answered 403")
    assert "pass /sse on at the proxy" in report.text
    assert "proxy_buffering" not in report.text


@pytest.mark.slow
def test_a_proxy_without_its_server_is_found(
    doctor: Doctor, one_node: RunningServer, start_proxy: Callable[..., str]
) -> None:
    with HeldPort() as port:
        report = doctor("-p", str(one_node.port), "--url", start_proxy(port=port.number), *PROXIED)
    assert report.has("fault", "public address", "is a proxy whose server does not answer (502)")


@pytest.mark.slow
def test_an_address_of_another_service_is_found(
    doctor: Doctor, one_node: RunningServer, start_server: StartServer
) -> None:
    other = start_server()
    report = doctor("-p", str(one_node.port), "--url", other.url, *PROXIED)
    for check in ("websocket", "sse", "long poll"):
        assert report.has("fault", check, f"{other.url} leads to another service than {one_node.url}")


@pytest.mark.slow
def test_a_certificate_is_examined_as_it_is_served(
    tmp_path: Path, doctor: Doctor, start_server: StartServer
) -> None:
    """It expires in ten days, or its authority is unknown."""
    flags = made_certificate(tmp_path, 50)
    url = f"https://127.0.0.1:{start_server(*flags).port}"
    in_forty_days = Subject(
        Settings(ssl_certfile=flags[1], ssl_keyfile=flags[3]),
        nodes=[Server(url, SigningKey("", SECRET), certfile=flags[1])],
        wall=lambda: time.time() + 40 * 86_400,
    )
    soon = [f"the certificate of {where} expires in 10.0 days" for where in (flags[1], url)]
    assert texts(in_forty_days, "certificate file", "certificate") == soon
    report = doctor("--node", url, *flags, "--url", url)
    assert report.has("fault", "certificate", "clients refuse the certificate of")
    assert report.findings[-1][1] == "certificate"
