"""The shape of errors: one body for all of them, in which programs for 0.7 find their keys."""

from typing import Any

import pytest

from channelstream import errors
from channelstream.close_codes import CloseCode
from channelstream.errors import Invalid, NotFound, closed


def all_errors(kind: type[errors.ChannelstreamError] = errors.ChannelstreamError) -> list[Any]:
    """Every class of errors that says its code."""
    below = [each for subclass in kind.__subclasses__() for each in all_errors(subclass)]
    return [*below, *([kind] if "code" in vars(kind) else [])]


def test_codes_are_snake_case_words_of_one_status() -> None:
    """Each code belongs to one class and reads as one word."""
    codes = [kind.code for kind in all_errors()]
    assert len(codes) == len(set(codes))
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_faults_stand_at_top_level_too() -> None:
    """As 0.7.1 put them, beside the keys of every error."""
    faults = {"username": ["Missing data for required field."], "channels": {"0": ["Not a valid string."]}}
    assert Invalid(faults).body == faults | {
        "error": "Nothing was done. Correct username and send it again: "
        "Missing data for required field; `faults` has the others.",
        "code": "invalid",
        "faults": faults,
    }


@pytest.mark.parametrize("name", sorted(errors.OWN_KEYS))
def test_a_field_named_like_a_key_of_errors(name: str) -> None:
    """A channel may be called so: its fault is in `faults` only."""
    body = Invalid({name: {"key": ["Wrong."]}}).body
    assert body["faults"] == {name: {"key": ["Wrong."]}}
    assert body["code"] == "invalid"
    assert body["error"] == f"Nothing was done. Correct {name}.key and send it again: Wrong."


@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        (CloseCode.NORMAL, 401, "connection_ended"),
        (CloseCode.UNKNOWN_CONNECTION, 401, "unknown_connection"),
        (CloseCode.TOKEN_EXPIRED, 401, "bad_token"),
        (CloseCode.REPLACED, 409, "replaced"),
        (CloseCode.RESTARTING, 503, "unavailable"),
        (CloseCode.OVERLOADED, 503, "unavailable"),
        (CloseCode.TOO_SLOW, 503, "unavailable"),
    ],
)
def test_a_poll_says_what_a_close_code_says(code: CloseCode, status: int, word: str) -> None:
    """By status and word, and by the close code itself; only what passes says when to come back."""
    error = closed(code, "the reason")
    assert (error.http_status, error.body["code"], error.body["close_code"]) == (status, word, code)
    assert error.message.startswith("The reason; ")
    assert [name for name, _ in error.headers] == ([b"retry-after"] if status == 503 else [])


def test_a_refused_stream_is_closed_as_an_ended_one() -> None:
    """An error that ends a stream has one close code, whether the stream was open or not."""
    ends = {kind: kind.close_code for kind in all_errors() if kind.close_code is not None}
    assert {kind: kind.refusal_code for kind in ends} == ends


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/messages", "check the path against the API document."),
        (
            "/app/shop/messages",
            "check the id of the application, and the path after it against the API document.",
        ),
        ("/apps/42/event", "check the path against docs/pusher.md, which has those of Pusher's SDKs."),
        ("/push/apps/42/event", "check the path against docs/pusher.md, which has those of Pusher's SDKs."),
    ],
)
def test_a_path_of_nothing_is_answered_with_where_the_right_ones_are(path: str, hint: str) -> None:
    """Applications and SDKs of Pusher have paths of their own."""
    assert NotFound.path(path).message == f"There is no {path} here: {hint}"
