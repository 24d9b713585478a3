"""The ports of Redis servers of the tests."""

import socket

import pytest
from tests.redis_server import held_ports


def test_a_port_is_held_for_the_servers_of_one_test() -> None:
    """With that of the cluster bus: they may listen there, again and again, and no other test gets it."""
    with held_ports(2) as ports:
        for port in ports:
            for number in (port, port + 10_000):
                for _ in range(2):
                    socket.create_server(("127.0.0.1", number)).close()  # With SO_REUSEADDR, as Redis has it.
                with socket.socket() as other, pytest.raises(OSError, match="in use"):
                    other.bind(("127.0.0.1", number))
