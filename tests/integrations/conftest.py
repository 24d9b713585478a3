"""Fixtures for whatever the server calls by a name."""

import socket

import pytest


@pytest.fixture(
    params=[
        (socket.EAI_NONAME, "its name has no address"),
        (socket.EAI_AGAIN, "its name cannot be looked up now"),
    ]
)
def failed_lookup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let no name have an address, since the servers of names say so, or none of them answers; return the reason."""
    code, reason = request.param

    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "as the system says it")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return str(reason)
