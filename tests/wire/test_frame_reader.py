"""The frame reader, against RFC 6455 and the golden bytes."""

import gc
import json
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.close_codes import CloseCode
from channelstream.wire.deflate import compress, inflate
from channelstream.wire.frame_head import PIECE_BYTES, FrameError, Opcode
from channelstream.wire.frame_reader import (
    WHOLE_PIECE_BYTES,
    Close,
    Data,
    FrameReader,
    Inbound,
    Limits,
    Ping,
    Pong,
)
from channelstream.wire.unfinished import Unfinished

VECTORS = json.loads((Path(__file__).parents[2] / "spec/vectors/websocket.json").read_text("utf-8"))
LIMITS = Limits(frame_bytes=1 << 17, message_bytes=1 << 17, frames=200)
MANY = Limits(frame_bytes=1 << 17, message_bytes=1 << 17, frames=100_000)
SMALL = Limits(frame_bytes=300, message_bytes=500, frames=100_000)
LONGEST_HELD_BYTES = 14 + 125
"""A head or a control frame that is still incomplete."""
MASK = b"\x37\xfa\x21\x3d"


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """Encode as a client does; written apart from the code under test."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    first = (0x80 if fin else 0) | rsv | opcode
    return bytes([first]) + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def read(reader: FrameReader, *chunks: bytes) -> tuple[list[Inbound], CloseCode | None]:
    """Return the events of all chunks and the code of the fault that ended them."""
    events: list[Inbound] = []
    try:
        for chunk in chunks:
            events.extend(event for event in reader.feed(chunk) if event is not None)
    except FrameError as fault:
        return events, fault.code
    return events, None


def fault(*chunks: bytes, limits: Limits = LIMITS) -> CloseCode | None:
    return read(FrameReader(limits), *chunks)[1]


def held_bytes(reader: FrameReader) -> int:
    """Sum the byte strings that can be reached from the reader's own state."""
    total, seen, queue = 0, set(), [reader]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type) or callable(thing):
            continue
        seen.add(id(thing))
        total += len(thing) if isinstance(thing, bytes | bytearray) else 0
        queue.extend(gc.get_referents(thing))
    return total


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def golden_event(event: dict[str, object]) -> Inbound:
    if event["type"] == "close":
        return Close(event["code"], event["reason"])
    payload = bytes.fromhex(str(event["payload"]))
    if event["type"] == "data":
        return Data(Opcode(event["opcode"]), payload)
    return {"ping": Ping, "pong": Pong}[str(event["type"])](payload)


def named(rows: list[dict[str, object]]) -> list[object]:
    return [pytest.param(row, id=str(row["name"])) for row in rows]


@pytest.mark.parametrize("row", named(VECTORS["client_frames"]))
def test_frames_of_clients_are_read_as_the_vectors_say(row):
    """Client frames give the events, or the fault, that the vectors name, in one chunk and byte by byte."""
    data = bytes.fromhex(row["bytes"])
    expected = [golden_event(event) for event in row["events"]], row["error"]
    assert read(FrameReader(LIMITS), data) == expected
    assert read(FrameReader(LIMITS), *cut(data, list(range(len(data))))) == expected


@pytest.mark.parametrize("row", named(VECTORS["client_frames_deflate"]))
def test_rsv1_is_read_on_first_frames_only(row):
    """With permessage-deflate, RSV1 is read on the first frame of a data message and nowhere else."""
    data = bytes.fromhex(row["bytes"])
    expected = [golden_event(event) for event in row["events"]], row["error"]
    assert read(FrameReader(LIMITS, inflate), data) == expected


@pytest.mark.parametrize("row", named(VECTORS["client_floods"]))
def test_the_frame_too_many_is_refused(row):
    """Every frame counts, whatever it carries and however many come in one chunk; the one too many is 1008."""
    data = bytes.fromhex(row["start"]) + bytes.fromhex(row["repeat"]) * row["times"]
    assert fault(data) == row["error"]
    assert fault(*cut(data, [1000])) == row["error"]


def test_frames_are_counted_from_zero_after_renew():
    """Frames are counted from zero after `renew`, in the middle of a message too."""
    reader = FrameReader(LIMITS)
    flood = client_frame(0, b"", fin=False) * 199
    assert read(reader, client_frame(1, b"a", fin=False) + flood) == ([], None)
    reader.renew()
    assert read(reader, flood + client_frame(0, b"", fin=False)) == ([], None)
    assert read(reader, client_frame(0, b"")) == ([], CloseCode.POLICY_VIOLATION)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_small_pieces_count():
    """Frames sent byte by byte are bounded too; a long one may come in any number of TCP segments."""
    of_201_bytes = client_frame(2, b"x" * 193)
    assert fault(*pieces(of_201_bytes, 1), client_frame(9, b"")) is None
    assert fault(*pieces(of_201_bytes + client_frame(9, b""), 1)) == CloseCode.POLICY_VIOLATION
    assert fault(*pieces(client_frame(2, b"x" * (1 << 17)), WHOLE_PIECE_BYTES)) is None


def steps(reader: FrameReader, data: bytes) -> int:
    return sum(1 for _ in reader.feed(data))


def empty_blocks(count: int) -> bytes:
    """Return deflate blocks that hold a table of codes and nothing else: the most work for a byte."""
    bits = "".join(
        f"{value:0{size}b}"[::-1]
        # Not the last block, dynamic; 257 literals, 1 distance, 18 lengths of code lengths: only those of 18 and 1.
        for value, size in [(0, 1), (2, 2), (0, 5), (0, 5), (14, 4), (0, 6), (1, 3), (0, 42), (1, 3)]
    )
    bits += "1" + f"{138 - 11:07b}"[::-1] + "1" + f"{118 - 11:07b}"[::-1] + "000"
    whole = bits * (8 * count)
    return bytes(int(whole[at : at + 8][::-1], 2) for at in range(0, len(whole), 8))


@pytest.mark.parametrize(
    ("wire", "least"),
    [
        pytest.param(client_frame(2, b"x" * (1 << 17)), 2, id="a long frame"),
        pytest.param(
            client_frame(1, b"a", fin=False) + client_frame(0, b"", fin=False) * 1000, 1001, id="empty frames"
        ),
        pytest.param(client_frame(9, b"") * 1000, 1000, id="pings"),
        pytest.param(client_frame(2, compress(bytes(1 << 17)), rsv=0x40) * 50, 150, id="bombs"),
        pytest.param(client_frame(2, empty_blocks(250) + b"\0", rsv=0x40), 12, id="empty blocks"),
    ],
)
def test_steps_are_bounded(wire, least):
    """The bytes of one client are read in steps of bounded work, so that other tasks run between them."""
    reader = FrameReader(MANY, inflate)
    assert steps(reader, wire) >= least
    assert steps(reader, client_frame(10, b"")) == 1  # It was no fault that ended the steps.


messages = st.one_of(
    st.text(max_size=400).map(lambda text: (Opcode.TEXT, text.encode())),
    st.binary(max_size=400).map(lambda payload: (Opcode.BINARY, payload)),
)
controls = st.builds(
    lambda opcode, payload: (opcode, payload),
    st.sampled_from([Opcode.PING, Opcode.PONG]),
    st.binary(max_size=125),
)
places = st.lists(st.integers(0, 5000), max_size=6)
CONTROL_EVENTS = {Opcode.PING: Ping, Opcode.PONG: Pong}


@given(st.data())
def test_any_fragments_and_chunks(data):
    """However messages are split into frames and chunks, with controls between, the events are the same."""
    wire, expected = b"", []
    for opcode, payload in data.draw(st.lists(messages, max_size=3)):
        pieces = cut(payload, data.draw(places))
        for number, piece in enumerate(pieces):
            for control, body in data.draw(st.lists(controls, max_size=1)):
                wire += client_frame(control, body)
                expected.append(CONTROL_EVENTS[control](body))
            kind = Opcode.CONTINUATION if number else opcode
            wire += client_frame(kind, piece, fin=number == len(pieces) - 1)
        expected.append(Data(opcode, payload))
    assert read(FrameReader(LIMITS), *cut(wire, data.draw(places))) == (expected, None)


@given(st.lists(st.binary(max_size=700), max_size=12))
def test_random_bytes_stay_within_the_caps(chunks):
    """No bytes raise anything but FrameError or make the reader buffer more than its caps."""
    reader = FrameReader(SMALL, inflate)
    for chunk in chunks:
        read(reader, chunk)
        assert held_bytes(reader) <= SMALL.message_bytes + LONGEST_HELD_BYTES


frames = st.builds(
    client_frame,
    st.sampled_from(Opcode),
    st.binary(max_size=400),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0x40]),
)


@given(st.lists(frames, max_size=12), places)
def test_random_frames_stay_within_the_caps(sequence, cuts):
    """Valid frames in any order raise nothing but FrameError and stay within the caps, inflated ones too."""
    reader = FrameReader(SMALL, inflate)
    for chunk in cut(b"".join(sequence), cuts):
        events, _ = read(reader, chunk)
        assert all(len(event.payload) <= SMALL.message_bytes for event in events if isinstance(event, Data))
        assert held_bytes(reader) <= SMALL.message_bytes + LONGEST_HELD_BYTES


def test_idle_reader_is_small():
    """A reader costs less than 200 bytes before the first frame and again after messages."""
    reader = FrameReader(LIMITS, inflate)
    read(reader, client_frame(1, b"Hel", fin=False), client_frame(0, b"lo"), client_frame(9, b""))
    assert sys.getsizeof(reader) < 200
    assert held_bytes(reader) == 0


def test_a_message_at_the_caps_passes():
    """A frame and a message of just the allowed length pass."""
    whole = client_frame(2, b"x" * 300, fin=False) + client_frame(0, b"x" * 200)
    assert read(FrameReader(SMALL), whole) == ([Data(Opcode.BINARY, b"x" * 500)], None)


def test_frame_over_the_cap_is_refused_by_its_head():
    """A frame that is too long is 1009 before a byte of its payload has come (RFC 6455 section 10.4)."""
    head = client_frame(2, b"x" * 301)[:8]
    assert fault(head[:-1], limits=SMALL) is None
    assert fault(head, limits=SMALL) == CloseCode.TOO_BIG


def test_message_over_the_cap_is_refused_by_its_head():
    """The fragment that makes a message too long is 1009 before its payload (RFC 6455 section 10.4)."""
    start = client_frame(2, b"x" * 300, fin=False)
    assert fault(start, client_frame(0, b"x" * 201)[:8], limits=SMALL) == CloseCode.TOO_BIG


def test_control_frames_do_not_count_for_the_caps():
    """A ping passes inside a message that has reached its cap (RFC 6455 section 5.4)."""
    tight = Limits(frame_bytes=10, message_bytes=10, frames=3)
    wire = client_frame(2, b"x" * 10, fin=False) + client_frame(9, b"p" * 125) + client_frame(0, b"")
    assert read(FrameReader(tight), wire) == ([Ping(b"p" * 125), Data(Opcode.BINARY, b"x" * 10)], None)


@pytest.mark.parametrize("text", [b"\xff", b"a\xc0\xaf", b"\xf4\x90", b"\xe0\x80"])
def test_bad_text_fails_at_once(text):
    """A text fails with the byte that spoils it, with more frames or more payload to come (section 8.1)."""
    assert fault(client_frame(1, text, fin=False)) == CloseCode.INVALID_TEXT
    assert fault(client_frame(1, text + b" and more")[: 6 + len(text)]) == CloseCode.INVALID_TEXT


def test_bad_text_across_fragments():
    """A character begun in one fragment and broken by the next is 1007."""
    assert fault(client_frame(1, b"\xf4", fin=False)) is None
    assert fault(client_frame(1, b"\xf4", fin=False), client_frame(0, b"\x90")) == CloseCode.INVALID_TEXT


def test_inflated_text_is_checked():
    """A compressed text that is not UTF-8 is 1007; the same bytes as binary pass (RFC 7692 section 6.2)."""
    stored = bytes.fromhex("000100feffff00")
    assert read(FrameReader(LIMITS, inflate), client_frame(1, stored, rsv=0x40)) == (
        [],
        CloseCode.INVALID_TEXT,
    )
    binary = client_frame(2, stored, rsv=0x40)
    assert read(FrameReader(LIMITS, inflate), binary) == ([Data(Opcode.BINARY, b"\xff")], None)


def test_an_inflated_character_may_be_in_two_pieces():
    """A text is inflated in steps, which end at any byte of it."""
    text = ("€" * (PIECE_BYTES // 3 + 1)).encode()  # Three bytes each: the 65,536th begins one.
    data = client_frame(1, compress(text), rsv=0x40)
    assert read(FrameReader(LIMITS, inflate), data) == ([Data(Opcode.TEXT, text)], None)


VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", VALID_CODES)
def test_an_allowed_close_code_is_read(code):
    """Codes that RFC 6455 section 7.4 or IANA's registry allows on the wire are read."""
    assert read(FrameReader(LIMITS), client_frame(8, code.to_bytes(2, "big"))) == ([Close(code, "")], None)


@pytest.mark.parametrize("code", INVALID_CODES)
def test_a_reserved_close_code_is_a_protocol_error(code):
    """Reserved and unassigned codes are a protocol error (RFC 6455 section 7.4)."""
    assert fault(client_frame(8, code.to_bytes(2, "big"))) == CloseCode.PROTOCOL_ERROR


def test_nothing_is_read_after_a_close():
    """After a close frame everything is ignored, faults included (RFC 6455 section 5.5.1)."""
    reader = FrameReader(LIMITS)
    assert list(reader.feed(client_frame(8, b"") + b"\xff\xff")) == [Close(None, "")]
    assert list(reader.feed(client_frame(9, b"") + b"\xff\xff")) == []
    assert held_bytes(reader) == 0


def test_nothing_is_read_after_a_fault():
    """After a fault everything is ignored and nothing is buffered (RFC 6455 section 7.1.7)."""
    reader = FrameReader(LIMITS)
    start = client_frame(1, b"Hel", fin=False)
    assert read(reader, start + client_frame(3, b"")) == ([], CloseCode.PROTOCOL_ERROR)
    assert list(reader.feed(client_frame(9, b""))) == []
    assert held_bytes(reader) == 0


def test_fault_names_its_reason():
    """A fault carries a sentence short enough for a close frame."""
    with pytest.raises(FrameError, match="reserved opcode") as caught:
        list(FrameReader(LIMITS).feed(client_frame(3, b"")))
    assert caught.value.reason == "reserved opcode"


def test_a_reader_that_is_closed_gives_nothing_more():
    """A caller that stops in the middle of a chunk gets nothing more."""
    reader = FrameReader(LIMITS)
    events = reader.feed(client_frame(9, b"1") + client_frame(9, b"2"))
    assert next(events) == Ping(b"1")
    events.close()
    assert list(reader.feed(client_frame(9, b"3"))) == []


def moved(reader: FrameReader, limits: Limits, inflates: bool) -> FrameReader:
    """Return a reader that continues what another one has begun to read."""
    begun = reader.unfinished()
    again = FrameReader(limits, inflate if inflates else None)
    if begun is not None:
        again.continue_from(msgspec.msgpack.decode(msgspec.msgpack.encode(begun), type=Unfinished))
    return again


@pytest.mark.parametrize("inflates", [False, True])
def test_another_reader_continues_at_any_byte(inflates):
    """In a head, a payload, a control frame, or between the frames of a message: the events are those of one reader."""
    text = "ö\N{SNOWMAN}".encode() * 20
    first, rest = (compress(text)[:9], compress(text)[9:]) if inflates else (text[:33], text[33:])
    data = client_frame(1, first, fin=False, rsv=0x40 * inflates) + client_frame(9, b"ping")
    data += client_frame(0, rest) + client_frame(2, b"x" * 130) + client_frame(8, b"\x03\xe8")
    expected, _ = read(FrameReader(LIMITS, inflate if inflates else None), data)
    assert len(expected) == 4
    for at in range(len(data) + 1):
        reader = FrameReader(LIMITS, inflate if inflates else None)
        before, _ = read(reader, data[:at])
        assert reader.inflates == inflates
        after, _ = read(moved(reader, LIMITS, inflates), data[at:])
        assert before + after == expected, at


def test_a_reader_between_two_messages_leaves_nothing():
    reader = FrameReader(LIMITS)
    read(reader, client_frame(1, b"whole"))
    assert reader.unfinished() is None
