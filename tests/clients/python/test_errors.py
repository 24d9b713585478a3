"""Errors of the Python client cross process borders with their attributes."""

import copy
import inspect
import pickle
from typing import Any

import pytest

from channelstream_client import (
    ChannelstreamError,
    CommandRefused,
    PartlySent,
    Refused,
    StreamClosed,
    Unreachable,
    errors,
    protocol,
)

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ChannelstreamError)
]


def made(kind: type[ChannelstreamError]) -> ChannelstreamError:
    if issubclass(kind, Refused):
        return kind(422, {"channels": ["no"]}, 7.0)
    if issubclass(kind, StreamClosed):
        return kind(4001, "expired")
    if issubclass(kind, CommandRefused):
        return kind("rate_limited", "Later.", 3)
    if issubclass(kind, PartlySent):
        return kind(["a"], Unreachable("cut"))
    return kind("what was wrong")


def state(error: BaseException) -> Any:
    facts = {key: repr(value) for key, value in vars(error).items()}
    return type(error), str(error), facts


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "through",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
)
def test_errors_are_pickled_and_copied(kind: type[ChannelstreamError], through: Any) -> None:
    """A process pool hands every error back as it was raised, with its text and attributes."""
    error = made(kind)
    assert state(through(error)) == state(error)
    assert state(kind(*error.args)) == state(error)


@pytest.mark.parametrize(
    "error", [protocol.StreamEnded(4008, "slow", 2.0), protocol.RenewalFailed("no answer")]
)
def test_ends_of_streams_are_pickled(error: protocol.StreamEnded) -> None:
    """The cause of a closed stream can be pickled as well."""
    assert state(pickle.loads(pickle.dumps(error))) == state(error)


def test_texts_are_for_people() -> None:
    """The text of an error says what happened, not how it is constructed."""
    assert str(made(Refused)) == "answered 422: {'channels': ['no']}"
    assert (
        str(Refused(422, {"error": "Correct channels.", "faults": {}}, None))
        == "answered 422: Correct channels."
    )
    assert str(made(StreamClosed)) == "expired (4001)"
    assert str(StreamClosed(4008, "")) == "closed (4008)"
    assert str(made(PartlySent)) == "1 messages were sent, then: cut"
