"""The probes: a word for anyone who asks, without a signature, and without a call of the engine."""

import asyncio

import pytest
from tests.conftest import RunningServer
from tests.http.test_router import answered, asked
from tests.http_client import http

from channelstream.config import Settings
from channelstream.http.response import Response
from channelstream.server import Server, build


def made(**options: bool) -> Server:
    return build(Settings(secret="x", admin_secret="y", **options))  # type: ignore[arg-type]


def probed(server: Server, path: str, method: str = "GET") -> Response:
    return answered(server._http_server.router, asked(path, method))


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_probe_needs_nothing_and_reveals_nothing(server: RunningServer, path: str, method: str) -> None:
    """No cookie, no version, nothing that a page of another origin may read, and nothing that a cache keeps."""
    answer = http.request(method, server.url + path, headers={"origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.text) == (200, "ok" if method == "GET" else "")
    assert dict(answer.headers) == {
        "date": answer.headers["date"],
        "content-type": "text/plain",
        "content-length": "2",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_other_methods_are_refused(path: str) -> None:
    assert probed(made(), path, "POST").status == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_is_answered_over_plain_http(path: str) -> None:
    """Where everything else is refused: probes come from inside."""

    async def life() -> Server:
        server = made(enforce_https=True)
        await server.node.start()
        return server

    server = asyncio.run(life())
    assert probed(server, path).status == 200
    assert probed(server, "/info").status == 406


def test_a_node_that_drains_is_alive_and_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """From before it stops to accept: a load balancer has to see it first."""
    seen: list[tuple[Response, Response]] = []

    async def life() -> None:
        server = made()
        await server.node.start()
        close = server._listener.close

        def record() -> None:
            router = server._http_server.router
            requests = [router.request(asked(path), None) for path in ("/healthz", "/readyz")]  # type: ignore[arg-type]
            seen.append([router.handler(request)(request) for request in requests])  # type: ignore[arg-type]
            close()

        monkeypatch.setattr(server._listener, "close", record)
        await server._shut_down()

    asyncio.run(life())
    [(alive, ready)] = seen
    assert (alive.status, alive.body) == (200, b"ok")
    assert (ready.status, ready.body) == (503, b"draining")
    assert (b"cache-control", b"no-store") in ready.headers
