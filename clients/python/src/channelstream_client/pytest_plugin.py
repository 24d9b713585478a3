"""The pytest plugin of `channelstream-client[pytest]`: fixtures for tests against a real server (docs/testing.md)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if (
    TYPE_CHECKING
):  # Every run of pytest loads the plugin, so it imports its dependencies only when a fixture is used.
    from channelstream_client.testing import TestServer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option for flags of the server."""
    parser.addini(
        "channelstream_flags", "Flags of the channelstream server that tests start.", type="args", default=[]
    )


@pytest.fixture(scope="session")
def channelstream_process(request: pytest.FixtureRequest) -> "Iterator[TestServer]":
    """A server for the whole run."""
    from channelstream_client.testing import NotInstalled, TestServer

    try:
        server = TestServer(request.config.getini("channelstream_flags"))
    except NotInstalled as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture
def channelstream_server(channelstream_process: "TestServer") -> "Iterator[TestServer]":
    """The server of this run. Listeners and connections of a test are closed at the end of the test."""
    yield channelstream_process
    channelstream_process.clear()
