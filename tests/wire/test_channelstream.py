"""This server's own protocols against the golden items: every event in both, live and catching up."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.entry import Entry
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.wire.channelstream import (
    SEED,
    V07,
    catchup_item,
    closing_item,
    item,
    resumed_item,
)
from channelstream.wire.client_commands import Subscribe, Subscribed
from channelstream.wire.client_session import ClientSession
from channelstream.wire.deflate import inflate
from channelstream.wire.frames import close_frame, text_frame
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "spec" / "vectors" / "items.json").read_bytes()
)
EPOCHS = (VECTORS["position"].removesuffix("-7"),)
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Message, MessageEdited, MessageDeleted, Presence, UserStateChanged)
}
BOTH = pytest.mark.parametrize("protocol", [SEED, V07], ids=lambda protocol: protocol.name)
CASES = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["items"]]


def entry(vector: dict[str, Any]) -> Entry:
    fields = dict(vector["event"])
    kind = KINDS[fields.pop("kind")]
    if "payload" in fields:
        fields["payload"] = fields["payload"].encode()
    return Entry(7, EPOCHS, 0.0, msgspec.convert(fields, kind))


def session(framing: Framing) -> ClientSession:
    return PROTOCOLS.session_of(V07, framing)


def form(vector: dict[str, Any], protocol: ClientProtocol, which: str) -> bytes:
    """The golden form as compact JSON; keys keep their order."""
    return msgspec.json.encode(vector[protocol.name][which])


@BOTH
@pytest.mark.parametrize("vector", CASES)
def test_a_live_item_is_golden(vector: dict[str, Any], protocol: ClientProtocol) -> None:
    """Byte for byte as in the vectors."""
    assert item(entry(vector), protocol) == form(vector, protocol, "live")


@BOTH
@pytest.mark.parametrize("vector", CASES)
def test_a_catchup_item_is_golden(vector: dict[str, Any], protocol: ClientProtocol) -> None:
    """Byte for byte as in the vectors; edits and deletions are marked as well."""
    assert catchup_item(entry(vector), protocol) == form(vector, protocol, "catchup")


@BOTH
def test_a_batched_leave_is_an_item_for_each_user(protocol: ClientProtocol) -> None:
    """Byte for byte the items of single leaves, each with its offset; also for the rest after an offset."""
    (vector,) = VECTORS["together"]
    fields = {key: value for key, value in vector["event"].items() if key != "kind"}
    parted = Entry(7, EPOCHS, 0.0, msgspec.convert(fields, UsersLeft))
    golden = vector[protocol.name]
    for made, which in ((item, "live"), (catchup_item, "catchup")):
        for rest, begin in ((parted, 0), (parted.after(5), 1), (parted.after(6), 2)):
            assert made(rest, protocol) == b",".join(map(msgspec.json.encode, golden[which][begin:]))


def test_every_kind_of_event_has_a_vector() -> None:
    """Every form on the wire has a golden vector."""
    assert {vector["event"]["kind"] for vector in VECTORS["items"]} == set(KINDS)
    assert {vector["event"]["kind"] for vector in VECTORS["together"]} == {UsersLeft.__name__}
    assert {*KINDS.values(), UsersLeft} == set(get_args(Event))


def test_an_item_is_made_once_per_protocol() -> None:
    """All recipients get the same object; catching up does not change it."""
    each = entry(VECTORS["items"][0])
    old, new = PROTOCOLS.format_of(SEED, Framing.SSE), PROTOCOLS.format_of(V07, Framing.SSE)
    live = new.item(each)
    session(Framing.SSE).catchup_item(each)
    assert PROTOCOLS.format_of(V07, Framing.POLL).item(each) is live
    assert old.item(each) is not live
    assert old.item(each) is PROTOCOLS.format_of(SEED, Framing.WEBSOCKET).item(each)


@pytest.mark.parametrize("vector", CASES)
def test_an_item_is_one_line(vector: dict[str, Any]) -> None:
    """An event stream ends its field at a line break, so no item may have one."""
    for protocol in (SEED, V07):
        assert not set(b"\r\n") & set(item(entry(vector), protocol))


@pytest.mark.parametrize("vector", VECTORS["framed"])
def test_a_framing_is_golden(vector: dict[str, Any]) -> None:
    """Items enclosed in a WebSocket frame, an event stream block, a poll's body."""
    framing = Framing[vector["framing"].upper()]
    items = [b'{"a":1}', b'{"b":2}'][: vector["count"]]
    data = PROTOCOLS.format_of(V07, framing).enclose(items, vector["position"])
    assert (data.hex() if framing is Framing.WEBSOCKET else data.decode()) == vector["data"]


def test_no_items_are_an_empty_list() -> None:
    """The heartbeat of all framings."""
    heartbeats = {framing: session(framing).heartbeat for framing in Framing}
    assert heartbeats == {
        Framing.POLL: b"[]",
        Framing.SSE: b"data: []\n\n",
        Framing.WEBSOCKET: b"\x81\x02[]",
        Framing.DEFLATE: b"\x81\x02[]",
    }


def test_the_first_and_the_last_item_of_a_stream_are_golden() -> None:
    """The `resumed` item of a resuming client, and the closing item of a stream that the server ends."""
    golden = {name: msgspec.json.encode(form) for name, form in VECTORS["control"].items()}
    assert resumed_item("k3f9a1-7", ["a", "b"], ["c"]) == golden["resumed"]
    assert closing_item(4008, "too slow") == golden["closing"]


@pytest.mark.parametrize("framing", Framing)
def test_a_session_encloses_the_first_and_the_last_item(framing: Framing) -> None:
    """The first item has its position as Last-Event-ID, and the last one leaves the client's position as it is."""
    own, enclose = session(framing), PROTOCOLS.format_of(V07, framing).enclose
    first, last = resumed_item("e-7", ["a"], []), closing_item(4008, "too slow")
    assert own.resumed("e-7", ["a"], []) == enclose([first], "e-7")
    if framing.is_websocket:
        assert own.closing(4008, "too slow") == close_frame(4008, "too slow")
        assert own.closing(None, "") == close_frame(None)
    else:
        assert own.closing(4008, "too slow") == enclose([last], None)


@pytest.mark.parametrize("framing", Framing)
def test_a_session_has_no_greeting(framing: Framing) -> None:
    """The client knows its connection: older clients would take any other first frame for items."""
    assert session(framing).opened("c1") == b""


@pytest.mark.parametrize(
    "text", [b'{"type":"heartbeat"}', b"[]", b"not json", b"", bytearray(b'{"id":1,"type":"subscribe"}')]
)
def test_texts_of_clients_ask_for_nothing(text: bytes) -> None:
    """Older clients send heartbeats; no text is a command, and so nothing is answered."""
    own = session(Framing.WEBSOCKET)
    assert not own.receive(text)
    assert own.reply(Subscribe(("a",)), Subscribed(("a",))) == b""


@pytest.mark.parametrize("framing", Framing)
def test_the_streams_of_a_format_share_one_session(framing: Framing) -> None:
    """An idle stream costs no session of its own."""
    assert session(framing) is session(framing)
    assert session(framing).format is PROTOCOLS.format_of(V07, framing)


@pytest.mark.parametrize(
    ("writes", "whole"),
    [
        ([], b"[]"),
        ([b"[1]"], b"[1]"),
        ([b"[1]", b"[2,3]"], b"[1,2,3]"),
        ([b"[1]", b"[]", b"[2]"], b"[1,2]"),
        ([b"[]"], b"[]"),
    ],
)
def test_the_writes_of_a_poll_are_one_list(writes: list[bytes], whole: bytes) -> None:
    """A poll that ends without events has an empty list."""
    assert session(Framing.POLL).joined(writes) == whole


def test_compressed_frames_hold_the_same_list() -> None:
    """A long list is compressed and marked so, a short one is the plain frame; a client inflates to the same text."""
    long = [b'{"text":"%b"}' % (b"x" * 1000)]
    compressed = PROTOCOLS.format_of(V07, Framing.DEFLATE)
    data = compressed.enclose(long, "e-1")
    assert data[0] == 0xC1
    assert b"".join(inflate(data[2:] if data[1] < 126 else data[4:], 10_000)) == b"[%b]" % long[0]
    assert compressed.enclose([b"1"], "e-1") == text_frame(b"[1]")
