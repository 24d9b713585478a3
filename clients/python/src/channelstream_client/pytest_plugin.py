"""The pytest plugin of `channelstream-client[pytest]`: fixtures for tests against a real server (docs/testing.md)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # The plugin is loaded by every run of pytest: what it needs is imported when it is used.
    from channelstream_client.testing import TestServer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option that gives the server flags."""
    parser.addini(
        "channelstream_flags", "Flags of the channelstream server that tests start.", type="args", default=[]
    )


@pytest.fixture(scope="session")
def channelstream_process(request: pytest.FixtureRequest) -> "Iterator[TestServer]":
    """One server for the whole run."""
    from channelstream_client.testing import NotInstalled, TestServer

    try:
        server = TestServer(request.config.getini("channelstream_flags"))
    except NotInstalled as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture
def channelstream_server(channelstream_process: "TestServer") -> "Iterator[TestServer]":
    """The server of this run; what a test has listen to it ends with the test."""
    yield channelstream_process
    channelstream_process.clear()
