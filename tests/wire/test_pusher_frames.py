"""The frames of Pusher's protocol: their golden bytes."""

import json
from pathlib import Path

import pytest

from channelstream.wire import pusher_frames as frames

VECTORS = json.loads((Path(__file__).parents[2] / "spec/vectors/pusher_frames.json").read_text("utf-8"))
MADE = {
    "connection established": frames.established_frame("48213.90817263", 120),
    "pong": frames.PONG_FRAME,
    "error": frames.error_frame("This is wrong."),
    "error with a code": frames.error_frame("Too many.", 4301),
    "subscribed": frames.succeeded_frame("news"),
    "subscribed to a presence channel": frames.members_frame(
        "presence-a", {"ann": b'{"name":"Ann"}', "7": b"null"}
    ),
    "subscription refused": frames.refused_frame("private-a", "AuthError", "No signature.", 401),
    "cache miss": frames.cache_miss_frame("cache-a"),
    "signed in": frames.signed_in_frame('{"id":"ann"}'),
    "member added": frames.member_added_frame("presence-a", "ann", b'{"name":"Ann"}'),
    "member removed": frames.member_removed_frame("presence-a", "ann"),
    "event": frames.event_frame("created", "news", '{"id": 7}'),
    "event of a client": frames.client_event_frame("client-hi", "private-a", '{"n":1}', ""),
    "event of a member": frames.client_event_frame("client-hi", "presence-a", '"text"', "ann"),
}


@pytest.mark.parametrize("name", MADE)
def test_frames_are_those_of_the_vectors(name: str) -> None:
    """Data is a text with JSON in it, except in errors and in events of clients."""
    assert MADE[name].decode() == VECTORS[name]


def test_each_vector_is_tested() -> None:
    assert VECTORS.keys() == MADE.keys()
