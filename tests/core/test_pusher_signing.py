"""Signatures of Pusher's protocol: the vectors, and what is no signature."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from channelstream.core.ids import normalize_conn_id
from channelstream.core.pusher_signing import (
    body_md5,
    channel_text,
    conn_id_of,
    is_genuine,
    is_granted,
    is_socket_id,
    request_text,
    signature,
    user_text,
)

VECTORS = json.loads((Path(__file__).parents[2] / "spec/vectors/pusher_signing.json").read_text("utf-8"))
KEY, SECRET, SOCKET_ID = VECTORS["key"], VECTORS["secret"], VECTORS["socket_id"]
HALF_A_PAIR = "\ud800"


@pytest.mark.parametrize("vector", VECTORS["channels"], ids=lambda vector: vector["channel"])
def test_the_vectors_of_channels(vector: dict[str, Any]) -> None:
    text = channel_text(SOCKET_ID, vector["channel"], vector["channel_data"])
    assert text == vector["text"]
    assert signature(SECRET, text) == vector["signature"]
    assert is_granted(KEY, (SECRET,), text, f"{KEY}:{vector['signature']}")


@pytest.mark.parametrize("vector", VECTORS["users"], ids=lambda vector: vector["user_data"])
def test_signatures_of_users_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    text = user_text(SOCKET_ID, vector["user_data"])
    assert text == vector["text"]
    assert signature(SECRET, text) == vector["signature"]


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["method"])
def test_the_vectors_of_requests(vector: dict[str, Any]) -> None:
    """Parameters are sorted, and their names are in lower case."""
    text = request_text(vector["method"], vector["path"], vector["parameters"].items())
    assert text == vector["text"]
    assert is_genuine(SECRET, text, vector["signature"])
    if vector["body"]:
        assert body_md5(vector["body"].encode()) == vector["parameters"]["body_md5"]


def test_empty_data_counts_as_none() -> None:
    """SDKs send null or an empty text where there is none."""
    assert channel_text("1.2", "private-a", "") == channel_text("1.2", "private-a", None) == "1.2:private-a"


@pytest.mark.parametrize(
    "auth",
    ["", ":", "kit-key", "other:{mac}", "kit-key:{mac}0", "kit-key:", "{mac}", "kit-key:é", HALF_A_PAIR],
)
def test_a_faulty_signature_is_refused(auth: str) -> None:
    """Of another key, cut, or no text that can be sent."""
    mac = signature(SECRET, "a text")
    assert not is_granted(KEY, (SECRET,), "a text", auth.format(mac=mac))
    assert not is_genuine(SECRET, "another text", mac)
    assert not is_genuine(SECRET, HALF_A_PAIR, HALF_A_PAIR)


@pytest.mark.parametrize("text", ["1.2", "48213.90817263", "0.0", "1" * 20 + "." + "2" * 20])
def test_a_socket_id_has_two_numbers(text: str) -> None:
    assert is_socket_id(text)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "1.2\n", "a.b", "1.2:private-a", "٣.٣", "1" * 21 + ".2"]
)
def test_another_text_is_no_socket_id(text: str) -> None:
    """A text with a colon could be signed as one with another channel."""
    assert not is_socket_id(text)


def test_a_socket_id_has_one_connection_id() -> None:
    """A UUID in its normal form, another one for each secret."""
    conn_id = conn_id_of(SECRET, SOCKET_ID)
    assert conn_id == "5f16e37f-7994-8b2c-9585-8e428e2369b0"
    assert normalize_conn_id(conn_id) == conn_id
    assert UUID(conn_id).version == 8
    assert len({conn_id, conn_id_of("other", SOCKET_ID), conn_id_of(SECRET, "12.35")}) == 3
