"""The frames that a server sends, against RFC 6455 and the golden bytes."""

import json
from pathlib import Path

import pytest

from channelstream.wire.frame_head import Opcode
from channelstream.wire.frames import PING, close_frame, frame, pong_frame, text_frame

VECTORS = json.loads((Path(__file__).parents[2] / "spec/vectors/websocket.json").read_text("utf-8"))


@pytest.mark.parametrize("row", VECTORS["server_frames"], ids=lambda row: row["name"])
def test_frames_have_the_head_of_the_vectors(row):
    """Outgoing frames have the head the vectors name, followed by the payload."""
    payload = bytes.fromhex(row["payload"]) * row["times"]
    assert frame(Opcode(row["opcode"]), payload, row["rsv1"]) == bytes.fromhex(row["head"]) + payload


@pytest.mark.parametrize("row", VECTORS["close_frames"])
def test_a_close_frame_has_code_and_reason(row):
    """A close frame holds code and reason, the reason cut to 123 bytes between two characters."""
    assert close_frame(row["code"], row["reason"]) == bytes.fromhex(row["bytes"])


def test_builders_make_frames_of_their_opcode():
    """The builders for texts, pings and pongs are frames of their opcode."""
    assert text_frame(b"[]") == frame(Opcode.TEXT, b"[]")
    assert frame(Opcode.PING, b"") == PING
    assert pong_frame(b"x") == frame(Opcode.PONG, b"x")
