"""Plays scripts of clients with tokens; docs/proof.md says what holds after each step."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.simulation.planted import first_failure
from tests.simulation.report import Play, run_seed
from tests.simulation.token_disk import DISK_TOKENS
from tests.simulation.token_model import has
from tests.simulation.token_simulation import READING, TOKENS

from channelstream.core.connection import Connection
from channelstream.service.client_service import ClientService
from channelstream.service.revocations import Revocations
from channelstream.transports import client_actions, client_commands
from channelstream.transports.attachment import Attachment
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.socket_stream import SocketStream

PLAYED = [(TOKENS, 12), (READING, 6), (DISK_TOKENS, 6)]
"""How many seeds each run plays; `make simulate ARGS=--tokens` plays others."""
FIXED = [
    (TOKENS, 76),
    (TOKENS, 86),
    (TOKENS, 986),
    (READING, 23),
    (READING, 115),
    (READING, 129),
    (READING, 435609243),
    (DISK_TOKENS, 583661616),
]
"""Seeds that found something once."""


@pytest.mark.slow
@pytest.mark.parametrize(("play", "seeds"), PLAYED, ids=[play.option for play, _ in PLAYED])
def test_seeds(play: Play, seeds: int) -> None:
    """All promises hold whatever clients with tokens do, on every engine; a failure names its seed."""
    received = sum(run_seed(seed, play) for seed in range(seeds))
    assert received > seeds


@pytest.mark.slow
@pytest.mark.parametrize(("play", "seed"), FIXED, ids=[f"{play.option} {seed}" for play, seed in FIXED])
def test_seeds_that_found_something(play: Play, seed: int) -> None:
    """All promises hold for seeds that once broke one."""
    run_seed(seed, play)


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


FAULTS: list[tuple[str, Play, Any, str, Any, str]] = [
    ("an event less is missed", READING, client_actions, "read_chunk", shifted(1), "promised and never sent"),
    (
        "an event more is missed",
        READING,
        client_actions,
        "read_chunk",
        shifted(-1),
        "missed and not to be read",
    ),
    ("nothing is read on", READING, ClientActions, "starts", lambda *_: {}, "promised and never sent"),
    (
        "old texts",
        READING,
        client_actions,
        "forms_for",
        lambda _user, entries, _changes: entries,
        "missed in an old",
    ),
    ("the answer comes later", READING, Attachment, "change", changed_at_once, "before the answer"),
    ("no answer", TOKENS, client_commands, "_answer", unanswered, "instead of|not answered"),
    ("grants are not asked", TOKENS, ClientService, "_check", lambda *_: None, "though it is not granted"),
    (
        "a refresh leaves nothing",
        TOKENS,
        ClientService,
        "leave_ungranted",
        none_left,
        "in a channel that is not",
    ),
    ("a revoked token goes on", TOKENS, Revocations, "_end_all", nobody_ended, "goes on with a token"),
    ("a revoked token is accepted", TOKENS, Revocations, "has", lambda *_: False, "token that is refused"),
    ("an expired token goes on", TOKENS, SocketStream, "_expire", lambda _: None, "goes on with a token"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("play", "where", "name", "fault", "promise"),
    [each[1:] for each in FAULTS],
    ids=[each[0] for each in FAULTS],
)
def test_a_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, play: Play, where: Any, name: str, fault: Any, promise: str
) -> None:
    """Each of these is one line of the product that does something else."""
    monkeypatch.setattr(where, name, fault)
    assert first_failure(promise, play)
