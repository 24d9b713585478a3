"""Validation: every fault at once, in the words and the shape of 0.7.1, and never anything but two errors."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from tests.large_numbers import COUNT, check_time

from channelstream.api import plain, schemas, validation
from channelstream.api.field_by_field import MAX_FAULTS
from channelstream.api.validation import decoder_of
from channelstream.api.walker import LONG_BYTES, WAITING, Walker
from channelstream.errors import Invalid, Malformed, Unavailable


def run_to_end(read: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return a function that reads a body; only a long one needs an event loop, which takes longer than the read."""

    def run(body: bytes, *given: Any, **named: Any) -> Any:
        reading = read(body, *given, **named, walker=Walker())
        if len(body) >= LONG_BYTES:
            return asyncio.run(reading)
        with pytest.raises(StopIteration) as done:
            reading.send(None)
        return done.value.value

    return run


decode = run_to_end(validation.decode)
decode_one_or_many = run_to_end(validation.decode_one_or_many)
decode_channel_configs = run_to_end(validation.decode_channel_configs)
VECTORS = json.loads((Path(__file__).parents[2] / "spec" / "vectors" / "validation.json").read_text())
READERS: dict[str, Callable[[bytes], Any]] = {
    "POST /connect": partial(decode, schema=schemas.ConnectBody),
    "POST /subscribe": partial(decode, schema=schemas.SubscribeBody),
    "POST /unsubscribe": partial(decode, schema=schemas.UnsubscribeBody),
    "POST /user_state": partial(decode, schema=schemas.UserStateBody),
    "POST /user_status": partial(decode, schema=schemas.UserStatusBody),
    "POST /message": partial(decode_one_or_many, schema=schemas.MessageBody),
    "PATCH /message": partial(decode_one_or_many, schema=schemas.EditBody),
    "DELETE /message": partial(decode_one_or_many, schema=schemas.DeleteBody),
    "POST /channel_config": decode_channel_configs,
    "POST /info": partial(decode, schema=schemas.InfoBody),
    "POST /disconnect": partial(decode, schema=schemas.DisconnectBody),
}
FIELDS = sorted(
    {
        field
        for schema in vars(schemas).values()
        if isinstance(schema, type) and issubclass(schema, msgspec.Struct)
        for field in schema.__struct_fields__
    }
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


class Bounds(msgspec.Struct, kw_only=True):
    """Bounds that no schema of the API has on one side only."""

    least: Annotated[int, msgspec.Meta(ge=2)] = 2
    most: Annotated[float, msgspec.Meta(le=9)] = 9
    text: Annotated[str, msgspec.Meta(max_length=2)] = ""


class Picky(msgspec.Struct):
    """A schema with a rule that no walk knows of."""

    user: str

    def __post_init__(self) -> None:
        raise ValueError("never good")


def faults_of(read: Callable[[bytes], Any], body: Any) -> Any:
    """Return the faults of a body, None where it is good."""
    try:
        read(json.dumps(body).encode())
    except Invalid as error:
        return error.faults_at_top
    return None


def outcome(read: Callable[[bytes], Any], body: bytes) -> Any:
    """Return what reading gives, or which of the two errors."""
    try:
        return read(body)
    except (Malformed, Invalid) as error:
        return type(error)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['call']} {json.dumps(v['body'])[:60]}")
def test_faults_are_the_golden_ones(vector: dict[str, Any]) -> None:
    """Each body of the golden list gets its faults, all of them, or none."""
    assert faults_of(READERS[vector["call"]], vector["body"]) == vector["faults"]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"least": 1}, {"least": ["Must be at least 2."]}),
        ({"most": 9.5}, {"most": ["Must be at most 9."]}),
        ({"most": "10"}, {"most": ["Must be at most 9."]}),
        ({"text": "abc"}, {"text": ["Longer than maximum length 2."]}),
    ],
)
def test_a_bound_on_one_side_has_its_own_words(body: Any, faults: Any) -> None:
    """The text names only the bound there is."""
    assert faults_of(partial(decode, schema=Bounds), body) == faults


@pytest.mark.parametrize(
    ("given_value", "value"),
    [("true", True), ("True", True), (1, True), ("1", True), ("false", False), (0, False), ("0", False)],
)
def test_booleans_may_be_written_otherwise(given_value: Any, value: bool) -> None:
    """Old clients' spellings of a boolean are accepted."""
    body = json.dumps({"news": {"store_history": given_value}}).encode()
    assert decode_channel_configs(body)["news"].store_history is value


@pytest.mark.parametrize("given_value", [10, "10", "+10", 10.0])
def test_integers_may_be_written_otherwise(given_value: Any) -> None:
    """Digits in a string, and a whole number with a point, are integers."""
    body = json.dumps({"news": {"history_size": given_value, "log_age_s": given_value}}).encode()
    settings = decode_channel_configs(body)["news"]
    assert (settings.history_size, settings.log_age_s) == (10, 10)
    assert isinstance(settings.history_size, int)


@pytest.mark.parametrize(
    "given_value", [None, True, [], {}, "", "ten", "1.5", "1_0", "١٠", "9" * 5000, 1.5, 10**4000]
)
def test_other_integers_are_refused(given_value: Any) -> None:
    """A value that is no integer, or out of range, is a fault."""
    faults = faults_of(decode_channel_configs, {"news": {"history_size": given_value}})
    assert list(faults) == ["history_size"]


def test_one_object_and_a_list_are_distinguished() -> None:
    """A single object is read as one item; the flag says which form it was."""
    one, was_list = decode_one_or_many(b'{"user": "ann"}', schemas.MessageBody)
    assert ([item.user for item in one], was_list) == (["ann"], False)
    many, was_list = decode_one_or_many(b'[{"user": "ann"}, {"user": "bob"}]', schemas.MessageBody)
    assert ([item.user for item in many], was_list) == (["ann", "bob"], True)


def test_pairs_are_read_like_an_object() -> None:
    """The 0.2 list of pairs gives settings by name; of a name given twice the last one counts."""
    body = b'[["a", {"history_size": 1}], ["b", {}], ["a", {"history_size": 2}]]'
    configs = decode_channel_configs(body)
    assert configs == {"a": schemas.ChannelSettings(history_size=2), "b": schemas.ChannelSettings()}


def test_unknown_keys_are_dropped() -> None:
    """Keys that the schema lacks are ignored, on the fast path and on the one that explains."""
    quick, _ = decode_one_or_many(b'{"user": "ann", "x": [1]}', schemas.MessageBody)
    slow, _ = decode_one_or_many(b'{"user": "ann", "x": [1], "pm_users": null}', schemas.MessageBody)
    assert quick == slow == [schemas.MessageBody(user="ann")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"{'user': 'ann'}",
        b'{"username": "ann",}',
        b'{"username": NaN}',
        b'{"username": 1e999}',
        b'{"user_state": {"n": ' + b"9" * 5000 + b"}}",
        b'{"username": "\xff"}',
        b'{"username": 5, "user": "\xff"}',
        b'{"username": "\xed\xa0\x80"}',
        b'{"username": "a\nb"}',
        '{"username": "ann"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"username": "ann", "x": ' + b"[" * 251 + b"]" * 251 + b"}",
        b'"' + b'\\"' * 200_000 + b"[" * 300,
        b"[" * 300 + b'"' + b"\\" * 200_001,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_invalid_json_is_malformed(body: bytes) -> None:
    """Broken syntax, encoding, numbers and nesting are all one 400 in the shape of the other faults."""
    with pytest.raises(Malformed) as caught:
        decode(body, schemas.ConnectBody)
    assert list(caught.value.faults) == ["_schema"]


def test_brackets_in_texts_nest_nothing() -> None:
    """Brackets in a text do not count, with quotes and backslashes in it too."""
    text = '["{\\' * 300
    (item,), _ = decode_one_or_many(
        json.dumps({"user": "ann", "message": text}).encode(), schemas.MessageBody
    )
    assert item.message == text


def test_a_payload_may_nest() -> None:
    """Nesting up to the limit passes, however many brackets there are."""
    depth = plain.MAX_NESTING - 2
    body = (
        b'[{"user": "ann", "message": '
        + b"[" * depth
        + b"]" * depth
        + b'}, {"user": "ann", "message": [[]]}]'
    )
    items, _ = decode_one_or_many(body, schemas.MessageBody)
    assert msgspec.json.encode(items[0].message) == b"[" * depth + b"]" * depth


def test_large_numbers_are_read_as_fast_as_others() -> None:
    """In a valid body, and in one with faults."""
    valid = b'{"channel":"a","user":"b","message":%b}'
    check_time(lambda numbers: validation.decoded(valid % numbers, decoder_of(schemas.MessageBody)))
    check_time(lambda numbers: plain.read_plain(b'{"channel":1,"message":%b}' % numbers))


def test_large_numbers_in_states_are_read_as_fast_as_others() -> None:
    """Their types are known, so no hook reads them."""

    def read(numbers: bytes) -> None:
        state = b",".join(b'"k%d":%b' % each for each in enumerate(numbers[1:-1].split(b",")))
        body = b'{"user":"u","user_state":{%b}}' % state
        assert len(validation.decoded(body, decoder_of(schemas.UserStateBody)).user_state) == COUNT

    check_time(read)


def test_faults_are_bounded() -> None:
    """A body of faults is answered with the first hundred of them."""
    faults = faults_of(READERS["POST /message"], [0] * 100_000)
    assert len(faults) == MAX_FAULTS
    faults = faults_of(READERS["POST /message"], [{"user": "ann", "pm_users": [0] * 90}] * 90)
    assert sum(len(item["pm_users"]) for item in faults.values()) <= MAX_FAULTS


@pytest.mark.parametrize("is_long", [False, True])
def test_a_long_body_is_walked_outside_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    """With the same values and faults as a short one; a good body is never walked."""
    used: list[threading.Thread] = []
    walk = validation.read_by_field

    def watched(body: bytes, shape: Any) -> Any:
        used.append(threading.current_thread())
        return walk(body, shape)

    monkeypatch.setattr(validation, "read_by_field", watched)
    text = "x" * (LONG_BYTES if is_long else 1)
    for pm_users, found in ([None], "faults"), (None, "ann"), ([], "ann"):
        item = {"user": "ann", "channel": "a", "message": text, "pm_users": pm_users}
        try:
            (read,), _ = decode_one_or_many(json.dumps(item).encode(), schemas.MessageBody)
            assert (read.user, read.message) == (found, text)
        except Invalid as error:
            assert (found, list(error.faults)) == ("faults", ["pm_users"])
    assert [thread is threading.main_thread() for thread in used] == [not is_long] * 2


def test_long_bodies_are_walked_one_at_a_time() -> None:
    """So many wait, the next ones are refused at once, and later ones are read again."""
    running: list[bool] = []
    begun, may_end = threading.Event(), threading.Event()

    def read(_body: bytes) -> bool:
        running.append(True)
        begun.set()
        may_end.wait(60)
        is_alone = len(running) == 1
        running.clear()
        return is_alone

    async def scenario() -> None:
        walker, body = Walker(), b"x" * LONG_BYTES
        waiting = [asyncio.ensure_future(walker.run(read, body)) for _ in range(WAITING)]
        while not begun.is_set():
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await walker.run(read, body)
        assert len(running) == 1
        may_end.set()
        assert await asyncio.gather(*waiting) == [True] * WAITING
        assert await walker.run(read, body)

    asyncio.run(scenario())


def test_a_rule_the_walk_does_not_know_is_a_fault_still() -> None:
    """A value that only the schema itself refuses is a fault of the whole body."""
    with pytest.raises(Invalid) as caught:
        decode(b'{"user": "ann"}', Picky)
    assert caught.value.faults == {"_schema": ["never good"]}


def test_errors_of_handlers_have_the_old_words() -> None:
    """A fault that only a handler can find is reported in 0.7.1's words."""
    assert validation.missing_connection().faults == {"conn_id": ["Field may not be null."]}
    assert validation.unknown_connection().faults == {"conn_id": ["Unknown connection"]}
    assert validation.unknown_user().faults == {"user": ["Unknown user"]}


@given(body=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_answered(body: bytes) -> None:
    """No bytes raise anything but the two errors, in any call: to draw them takes longer than to read them."""
    for call, read in READERS.items():
        note(call)
        outcome(read, body)


@given(value=VALUES | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_any_json_is_answered(value: Any) -> None:
    """No JSON raises anything but the two errors, in any call, and the faults can be answered as JSON."""
    for call, read in READERS.items():
        note(call)
        faults = faults_of(read, value)
        assert faults is None or json.dumps(faults)


@given(
    value=st.fixed_dictionaries(
        {"user": st.text(min_size=1, max_size=4)},
        optional={
            "channel": st.none() | st.text(min_size=1, max_size=4),
            "pm_users": st.lists(st.text(min_size=1, max_size=3), max_size=2),
            "exclude_users": st.lists(st.text(min_size=1, max_size=3), max_size=2),
            "no_history": st.booleans(),
            "uuid": st.uuids().map(str),
            "timestamp": st.datetimes().map(lambda moment: moment.isoformat()),
            "message": VALUES,
        },
    )
)
def test_the_slow_path_reads_the_same_as_the_fast_path(value: dict[str, Any]) -> None:
    """A good body read by the walk, here forced by a null, is what msgspec reads at once."""
    read = READERS["POST /message"]
    quick, _ = read(json.dumps([value]).encode())
    slow, _ = read(json.dumps([value, {"user": "ann", "pm_users": None}]).encode())
    assert slow[:1] == quick
