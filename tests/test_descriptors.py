"""How many sockets a process takes, and what the log says about too few."""

import resource

import pytest

from channelstream.config import Settings
from channelstream.descriptors import FEW_DESCRIPTORS, reserved_descriptors, sockets_allowed


@pytest.mark.parametrize(
    ("limit", "wanted", "sockets", "said"),
    [
        (FEW_DESCRIPTORS, 0, FEW_DESCRIPTORS - reserved_descriptors(Settings()), ""),
        (1024, 0, 1024 - reserved_descriptors(Settings()), "raise LimitNOFILE"),
        (1024, 500, 500, ""),
        (1024, 5000, 1024 - reserved_descriptors(Settings()), "max_connections is reduced"),
        (20, 0, 1, "the process takes 1 sockets of clients"),
    ],
)
def test_a_low_limit_is_said_in_the_log(
    limit: int,
    wanted: int,
    sockets: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the options do not ask for few sockets. No process can raise its hard limit again, so none is lowered here."""
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, limit))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert sockets_allowed(Settings(max_connections=wanted)) == sockets
    assert raised == [(limit, limit)]
    assert said in caplog.text
    assert len(caplog.records) == bool(said)
