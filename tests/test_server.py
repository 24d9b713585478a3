"""The server as a process: where it listens, and how it ends when it cannot."""

import asyncio
import errno
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http_client import http
from tests.nursery import nursery
from tests.waiting import PATIENCE_S

from channelstream.http.listener import Listener
from channelstream.http.shared import HttpServer

Finished = subprocess.CompletedProcess[str]


def fail(*flags: str) -> Finished:
    """Run a server that must not start."""
    return nursery().run(flags, {})


def test_with_a_certificate_it_speaks_tls_only(start_server: Any, certificate: tuple[str, str]) -> None:
    """With a certificate it speaks TLS, and plain HTTP gets no answer."""
    cert, key = certificate
    running = start_server("--ssl-certfile", cert, "--ssl-keyfile", key)
    trust = ssl.create_default_context(cafile=cert)
    with httpx.Client(verify=trust, timeout=PATIENCE_S) as client:
        url = f"https://127.0.0.1:{running.port}/info"
        assert client.get(url, headers=running.sign("/info")).status_code == 200
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(running.url + "/info")


def test_serves_a_unix_socket(start_server: Any, tmp_path: Path) -> None:
    """It listens on the socket's path instead of a port."""
    path = str(tmp_path / "s.sock")
    running = start_server("--unix-socket", path)
    with httpx.Client(
        transport=httpx.HTTPTransport(verify=False, uds=path), base_url="http://push", timeout=PATIENCE_S
    ) as client:
        assert client.get("/info", headers=running.sign("/info")).status_code == 200


def test_ctrl_c_ends_it(start_server: Any) -> None:
    """SIGINT ends it with exit code 0 and no traceback; the log says that it stops, and that it has stopped."""
    code, log = start_server("--drain-timeout-s", "7").stop()
    assert code == 0
    assert "Traceback" not in log
    stopping, stopped = log.splitlines()[-2:]
    assert stopping.endswith("stopping: closing 0 streams, within 7 s")
    assert stopped.endswith("stopped")


def test_refuses_strangers_with_a_public_secret() -> None:
    """On all addresses with the default secret: exit code 2 and one line."""
    ended = fail("-o", "0.0.0.0", "-p", "0")
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("channelstream: secret: its default or empty value is accepted on loopback only")


def test_a_port_in_use_ends_the_start_with_one_line() -> None:
    """Exit code 2 and one error that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = fail("-p", str(port))
    assert ended.returncode == 2
    [line] = [line for line in ended.stderr.splitlines() if " INFO " not in line]
    assert f"port: cannot listen on http://127.0.0.1:{port}: Address already in use; another program" in line
    assert "stopped" not in ended.stderr
    assert line.endswith("take another port with -p")


@pytest.mark.replaces_compiled
@pytest.mark.parametrize(("first", "second"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_port_in_use_on_one_address_of_several(first: str, second: str) -> None:
    """A server on all addresses and one on a single address do not share a port."""

    async def refused() -> bool:
        with socket.create_server((first, 0)) as taken:
            try:
                await Listener(HttpServer.__new__(HttpServer)).listen_at(second, taken.getsockname()[1])
            except OSError as error:
                return error.errno == errno.EADDRINUSE
        return False

    assert asyncio.run(refused())


def test_a_unix_socket_in_use_stays_with_the_first_server(start_server: Any, tmp_path: Path) -> None:
    """A second server is refused as at a taken port, and the first one stays reachable."""
    path = str(tmp_path / "s.sock")
    running = start_server("--unix-socket", path)
    ended = fail("--unix-socket", path)
    assert ended.returncode == 2
    [line] = [line for line in ended.stderr.splitlines() if " INFO " not in line]
    assert line.endswith(
        f"unix_socket: cannot listen on '{path}': another server listens there; "
        "stop it, or take another path with --unix-socket"
    )
    with httpx.Client(
        transport=httpx.HTTPTransport(verify=False, uds=path), base_url="http://push", timeout=PATIENCE_S
    ) as client:
        assert client.get("/info", headers=running.sign("/info")).status_code == 200
    running.stop()
    assert not Path(path).exists()


def test_unix_socket_that_cannot_be_made() -> None:
    """Exit code 2 and one line that names option and path."""
    ended = fail("--unix-socket", "/nonexistent/s.sock")
    assert ended.returncode == 2
    assert "channelstream: unix_socket: cannot listen on '/nonexistent/s.sock': " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_file_that_is_no_certificate(tmp_path: Path) -> None:
    """Exit code 2 and one line that names the option."""
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    ended = fail("--ssl-certfile", str(junk))
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("channelstream: ssl_certfile: ")
