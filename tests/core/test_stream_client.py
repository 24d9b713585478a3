"""The client of a stream."""

import pytest

from channelstream.core.addresses import ADDRESS_CHARACTERS
from channelstream.core.stream_client import (
    AGENT_BYTES,
    AGENTS,
    TIME_BYTES,
    Agents,
    StreamClient,
    pack,
)


def test_equal_agents_are_one_text() -> None:
    """Also where the headers are different objects; without a header the text is empty."""
    agents = Agents()
    assert agents.text(b"Firefox") is agents.text(bytes(bytearray(b"Firefox")))
    assert (agents.text(b"Firefox"), agents.text(None)) == ("Firefox", "")


def test_long_texts_are_cut() -> None:
    """Both come from strangers."""
    assert Agents().text(b"\xff" * 1000) == "\xff" * AGENT_BYTES
    assert StreamClient.unpacked(pack("a" * 1000, 1.0), "").address == "a" * ADDRESS_CHARACTERS


def test_the_shared_texts_are_bounded() -> None:
    """Clients that send ever new agents do not make the server grow."""
    agents = Agents()
    first = agents.text(b"agent 0")
    for number in range(1, AGENTS + 10):
        agents.text(b"agent %d" % number)
    assert len(agents._texts) == AGENTS
    assert agents.text(b"agent 0") is not first


@pytest.mark.parametrize("address", ["", "10.0.0.1", "2001:db8::1", "\u00e9" * 64])
def test_a_client_is_kept_in_few_bytes(address: str) -> None:
    """To a hundredth of a second, with any address that a proxy reports."""
    client = StreamClient(address, "curl", 1_800_000_000.25)
    packed = pack(address, client.since_s)
    assert StreamClient.unpacked(packed, "curl") == client
    assert len(packed) == TIME_BYTES + len(address.encode())
