"""The facts that webhooks report: their stored form."""

from typing import get_args

import msgspec
import pytest

from channelstream.core.facts import (
    ENDS,
    MOST_MS,
    CacheMissed,
    ChannelOccupied,
    ChannelVacated,
    ClientEvent,
    ConnectionClosed,
    ConnectionOpened,
    Fact,
    MemberAdded,
    MemberRemoved,
    MessageAccepted,
    Repeated,
    UserOffline,
    UserOnline,
    decode,
    encode,
    end_of,
    kind_of,
    public_id,
    subject_of,
)
from channelstream.core.timestamps import stamp

GOLDEN: list[tuple[Fact, list[object], str]] = [
    (ChannelOccupied(id="i", at_ms=7, channel="c"), ["occupied", "i", 7, "c"], "c"),
    (ChannelVacated(id="i", at_ms=7, channel="c"), ["vacated", "i", 7, "c"], "c"),
    (MemberAdded(id="i", at_ms=7, channel="c", user="u"), ["added", "i", 7, "c", "u"], "c"),
    (MemberRemoved(id="i", at_ms=7, channel="c", user="u"), ["removed", "i", 7, "c", "u"], "c"),
    (UserOnline(id="i", at_ms=7, user="u"), ["online", "i", 7, "u"], "u"),
    (UserOffline(id="i", at_ms=7, user="u"), ["offline", "i", 7, "u"], "u"),
    (ConnectionOpened(id="i", at_ms=7, user="u", connection="x"), ["opened", "i", 7, "u", "x"], "u"),
    (ConnectionClosed(id="i", at_ms=7, user="u", connection="x"), ["closed", "i", 7, "u", "x"], "u"),
    (
        ClientEvent(id="i", at_ms=7, channel="c", event="e", data="{}", socket="1.2", user="u"),
        ["client_event", "i", 7, "c", "e", "{}", "1.2", "u"],
        "c",
    ),
    (
        MessageAccepted(id="i", at_ms=7, channel="c", uuid="n", user="u"),
        ["message", "i", 7, "c", "n", "u"],
        "c",
    ),
    (CacheMissed(id="i", at_ms=7, channel="c"), ["cache_miss", "i", 7, "c"], "c"),
    (
        Repeated(id="i", at_ms=7, place="c", receiver="r", data=b"d"),
        ["repeated", "i", 7, "c", "r", b"d"],
        "c",
    ),
]


@pytest.mark.parametrize(("fact", "form", "place"), GOLDEN, ids=[row[1][0] for row in GOLDEN])
def test_a_stored_form_stays_as_it_is(fact: Fact, form: list[object], place: str) -> None:
    """Engines have facts of older versions, and the script of the Redis engine writes the same form."""
    assert msgspec.msgpack.decode(encode(fact)) == form
    assert decode(msgspec.msgpack.encode(form)) == fact
    assert fact.place == place
    assert kind_of(fact) == form[0]


def test_a_fact_is_stored_as_an_array() -> None:
    """An array of MessagePack, without names."""
    assert encode(GOLDEN[0][0]) == b"\x94\xa8occupied\xa1i\x07\xa1c"


def test_every_type_has_a_golden_form() -> None:
    """So that a new one gets one."""
    assert [type(row[0]) for row in GOLDEN] == list(get_args(Fact))


@pytest.mark.parametrize("stored", [b"", b"\xc1", b"\x91\xa6newest", b"\x94\xa8occupied\xa1i\xa1x\xa1c"])
def test_what_this_version_does_not_know_is_none(stored: bytes) -> None:
    """Such as a fact of a newer node: others go on."""
    assert decode(stored) is None


@pytest.mark.parametrize("at_ms", [-1, MOST_MS + 1])
def test_a_time_that_cannot_be_shown_is_none(at_ms: int) -> None:
    """Else one fact of a node whose clock is wrong would end webhooks."""
    assert decode(encode(ChannelOccupied(id="i", at_ms=at_ms, channel="c"))) is None
    last = ChannelOccupied(id="i", at_ms=MOST_MS, channel="c")
    assert decode(encode(last)) == last
    assert stamp(MOST_MS / 1000).startswith("9999-12-31")


def test_a_newer_version_may_add_a_field() -> None:
    """It is the last one, and is skipped."""
    assert decode(b"\x95\xa8occupied\xa1i\x07\xa1c\xa3new") == GOLDEN[0][0]


def test_the_public_id_of_a_connection_is_a_digest() -> None:
    """The conn_id does not follow from it, and two have two."""
    assert public_id("c") == "84a516841ba77a5b4648de2cd0dfcb30ea46dbb4"
    assert public_id("d") != public_id("c")


@pytest.mark.parametrize("fact", [row[0] for row in GOLDEN if type(row[0]) in ENDS], ids=kind_of)
def test_what_begins_has_an_end(fact: Fact) -> None:
    """About the same subject; its kind is another one."""
    end = end_of(kind_of(fact), (*subject_of(fact), "")[:2], "j", 9)
    assert type(end) is ENDS[type(fact)]
    assert (end.id, end.at_ms, subject_of(end)) == ("j", 9, subject_of(fact))
