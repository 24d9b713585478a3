"""What a service manager is informed of."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S

from channelstream.service_manager import ADDRESS, READY, STOPPING, forget, notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify.sock"))
        receiver.settimeout(PATIENCE_S)
        yield receiver


def rest(manager: socket.socket) -> list[str]:
    """Everything that it was sent and has not read."""
    manager.setblocking(False)
    found = []
    try:
        while True:
            found.append(manager.recv(1000).decode())
    except BlockingIOError:
        return found


def test_a_state_is_a_datagram(manager: socket.socket) -> None:
    """To the path of the environment, which other processes may have."""
    notify("READY=1\nMAINPID=7", {ADDRESS: manager.getsockname()})
    assert rest(manager) == ["READY=1\nMAINPID=7"]


def test_an_address_may_be_abstract() -> None:
    """`@` stands for its first byte, which is zero."""
    name = uuid4().hex
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        notify(STOPPING, {ADDRESS: f"@{name}"})
        assert rest(receiver) == [STOPPING]


def test_nothing_is_sent_after_forgetting(manager: socket.socket) -> None:
    """Without an address, or with an empty one, too."""
    environ = {ADDRESS: manager.getsockname()}
    forget(environ)
    assert environ == {}
    forget(environ)
    for without in (environ, {ADDRESS: ""}):
        notify(READY, without)
    assert rest(manager) == []


@pytest.mark.parametrize("address", ["/nowhere/notify.sock", "vsock:2:1", "/" + 200 * "x"])
def test_a_failure_is_a_warning(caplog: pytest.LogCaptureFixture, address: str) -> None:
    """The server goes on; the line says what was not sent."""
    with caplog.at_level(logging.WARNING):
        notify(READY, {ADDRESS: address})
    [record] = caplog.records
    assert record.getMessage().startswith("the service manager is not informed of READY=1: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_start_and_the_stop_are_reported_once(
    workers: int, redis: RedisServer, manager: socket.socket, start_server: Callable[..., Any]
) -> None:
    """By the process that the manager has started, when it serves and when it begins to stop."""
    credentials = socket.CMSG_SPACE(12)
    manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    flags = ["--engine", redis.address, "--workers", str(workers)]
    service = start_server(*flags, **{ADDRESS: manager.getsockname()})
    state, [(_, _, sender)], _, _ = manager.recvmsg(1000, credentials)
    assert (state.decode(), int.from_bytes(sender[:4], "little")) == (READY, service.process.pid)
    assert service.stop()[0] == 0
    assert rest(manager) == [STOPPING]


def test_this_process_has_no_manager() -> None:
    """Servers of other tests would inherit it."""
    assert ADDRESS not in os.environ
