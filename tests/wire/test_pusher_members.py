"""The info of a member of a Pusher channel as a state, and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.user import MAX_STATE_KEYS, state_bytes
from channelstream.wire.pusher_members import INFO_KEY, MAX_KEYS, MAX_NUMBER, info_of, state_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
)

STATES: list[tuple[str | None, dict[str, Any]]] = [
    (None, {}),
    ("null", {}),
    ("[1]", {}),
    ("no JSON", {}),
    ("{}", {}),
    (
        '{"name" :"Ann","age":7,"size":1.5,"is":true,"none":null,"list":[1],"in":{"a":1}}',
        {"name": "Ann", "age": 7, "size": 1.5, "is": True},
    ),
    (f'{{"a":{MAX_NUMBER},"b":{-MAX_NUMBER - 1}}}', {"a": MAX_NUMBER}),
    (json.dumps(dict.fromkeys(map(str, range(MAX_KEYS)), 1)), dict.fromkeys(map(str, range(MAX_KEYS)), 1)),
    (json.dumps(dict.fromkeys(map(str, range(MAX_KEYS + 1)), 1)), {}),
    (f'{{"{INFO_KEY}":"x"}}', {}),
]


@pytest.mark.parametrize(("info", "shown"), STATES)
def test_a_state_shows_what_a_state_can_have(info: str | None, shown: dict[str, Any]) -> None:
    """Beside the exact text, unless there is none."""
    state = state_of(info)
    assert state == (shown if info is None else {**shown, INFO_KEY: info})
    assert info_of(state) == ("null" if info is None else info)


@given(JSON.map(json.dumps))
def test_every_info_comes_back_as_it_was(info: str) -> None:
    """Character by character, and its state can be kept."""
    state = state_of(info)
    assert info_of(state) == info
    assert len(state) <= MAX_STATE_KEYS
    assert state_bytes(state)


@pytest.mark.parametrize(
    ("state", "info"),
    [
        (None, "null"),
        ({}, "null"),
        ({"mood": "fine", "n": 1}, '{"mood":"fine","n":1}'),
        ({INFO_KEY: 7}, '{"pusher:user_info":7}'),
    ],
)
def test_the_public_state_of_a_user_is_its_info(state: dict[str, Any] | None, info: str) -> None:
    """It has joined as a client of ours does, so it has no text."""
    assert info_of(state) == info
