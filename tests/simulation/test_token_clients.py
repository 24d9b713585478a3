"""Plays scripts of clients with tokens; docs/proof.md says what holds after each step."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from tests.simulation.failure import Failure
from tests.simulation.report import run_seed
from tests.simulation.script import make_script
from tests.simulation.simulation import CLIENTS, simulate
from tests.simulation.token_disk import DISK_TOKENS
from tests.simulation.token_model import has
from tests.simulation.token_simulation import TOKENS, TokenSimulation

from channelstream.core.connection import Connection
from channelstream.service.client_service import ClientService
from channelstream.service.revocations import Revocations
from channelstream.transports import client_actions, client_commands
from channelstream.transports.attachment import Attachment
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.socket_stream import SocketStream

PLAYED, PLAYED_DISK = 12, 6
"""Seeds played by each run, on the memory engine and on that with a disk; `make simulate ARGS=--tokens` plays others."""
TRIES = 30
"""Seeds played at most until a fault that was planted is found."""
FIXED = [76, 86, 986]
"""Seeds that found something once."""


@pytest.mark.slow
def test_seeds() -> None:
    """All promises hold whatever clients with tokens do; a failure names its seed."""
    received = sum(run_seed(seed, TOKENS) for seed in range(PLAYED))
    assert received > PLAYED


@pytest.mark.slow
def test_seeds_on_the_sqlite_engine() -> None:
    """The same where every change is answered when the disk has it."""
    received = sum(run_seed(seed, DISK_TOKENS) for seed in range(PLAYED_DISK))
    assert received > PLAYED_DISK


@pytest.mark.parametrize("seed", FIXED)
def test_seeds_that_found_something(seed: int) -> None:
    """All promises hold for seeds that once broke one."""
    run_seed(seed, TOKENS)


@pytest.mark.parametrize(
    ("pattern", "channels"),
    [
        ("room.1", {"room.1"}),
        ("room.*", {"room.1", "room.2"}),
        ("room.**", {"room.1", "room.2", "room.1.chat"}),
        ("*", {"news", "room"}),
        ("**", {"news", "room", "room.1", "room.2", "room.1.chat", "room."}),
    ],
)
def test_the_model_knows_what_a_pattern_names(pattern: str, channels: set[str]) -> None:
    """Written by hand, as the documents say it (docs/tokens.md)."""
    names = ("news", "room", "room.", "room.1", "room.2", "room.1.chat")
    assert {name for name in names if has([pattern], name)} == channels


async def none_left(_service: ClientService, _channels: Any) -> list[str]:
    return []


async def nobody_ended(_revocations: Revocations, _revocation: Any) -> int:
    return 0


def shifted(by: int) -> Any:
    read_chunk = client_actions.read_chunk

    def read(node: Any, connection: Connection, starts: Mapping[str, int]) -> Any:
        return read_chunk(node, connection, {name: start + by for name, start in starts.items()})

    return read


async def changed_at_once(attachment: Attachment, make: Any) -> None:
    """Change what a stream receives while its events go on."""
    changed = await make()
    if attachment.is_current:
        attachment.stream.write(changed.answer)


async def unanswered(*_: Any) -> bytes:
    return b""


FAULTS: list[tuple[str, Any, str, Any, str, int]] = [
    ("an event less is missed", client_actions, "read_chunk", shifted(1), "promised and never sent", 2),
    ("an event more is missed", client_actions, "read_chunk", shifted(-1), "missed and not to be read", 5),
    ("nothing is read on", ClientActions, "starts", lambda *_: {}, "promised and never sent", 62),
    (
        "old texts",
        client_actions,
        "forms_for",
        lambda _user, entries, _changes: entries,
        "missed in an old",
        80,
    ),
    ("the answer comes later", Attachment, "change", changed_at_once, "before the answer", 12),
    ("no answer", client_commands, "_answer", unanswered, "instead of|not answered", 0),
    ("grants are not asked", ClientService, "_check", lambda *_: None, "though it is not granted", 0),
    ("a refresh leaves nothing", ClientService, "leave_ungranted", none_left, "in a channel that is not", 0),
    ("a revoked token goes on", Revocations, "_end_all", nobody_ended, "goes on with a token", 11),
    ("a revoked token is accepted", Revocations, "has", lambda *_: False, "token that is refused", 0),
    ("an expired token goes on", SocketStream, "_expire", lambda _: None, "goes on with a token", 3),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "fault", "promise", "first"),
    [each[1:] for each in FAULTS],
    ids=[each[0] for each in FAULTS],
)
def test_a_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, fault: Any, promise: str, first: int
) -> None:
    """Each of these is one line of the product that does something else."""
    monkeypatch.setattr(where, name, fault)
    assert first_failure(promise, first)


def first_failure(promise: str, first: int) -> str:
    """Return how the first of some seeds, from this one on, fails that breaks this promise; nothing where none does."""
    for seed in range(first, first + TRIES):
        try:
            simulate(seed, make_script(seed, CLIENTS, weights=TOKENS.weights), TokenSimulation)
        except Failure as failure:
            if re.search(promise, str(failure)):
                return f"{seed}: {failure}"
    return ""
