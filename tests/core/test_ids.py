"""Ids: many spellings, one form."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.ids import MAX_CONN_ID, is_traceparent, normalize_conn_id, normalize_uuid

DASHED = "6f1b1d3e-0f5a-4c39-9a53-0a8b2f7d1c11"


@pytest.mark.parametrize(
    "spelling",
    [
        DASHED,
        DASHED.upper(),
        DASHED.replace("-", ""),
        "{" + DASHED + "}",
        "urn:uuid:" + DASHED,
        "URN:UUID:" + DASHED,
    ],
)
def test_every_spelling_of_a_uuid_has_one_form(spelling: str) -> None:
    """Lower-case and dashed, also as a conn_id."""
    assert normalize_uuid(spelling) == DASHED
    assert normalize_conn_id(spelling) == DASHED


@given(st.uuids())
def test_a_uuid_keeps_its_value(value: uuid.UUID) -> None:
    """Whatever its version."""
    for spelling in (str(value), value.hex.upper(), value.urn):
        assert normalize_uuid(spelling) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1-2", DASHED + "0", DASHED[:-1], "{" + DASHED, DASHED + "}", DASHED[:-1] + "g"),
        *(DASHED.replace("-", "_"), " " + DASHED),
    ],
)
def test_a_malformed_uuid_is_refused(text: str) -> None:
    """Too long, too short, an open brace, a character that is no digit, other separators, a blank."""
    with pytest.raises(ValueError, match="not a UUID"):
        normalize_uuid(text)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "My-Own_Id",
        "ł😀",
        "x" * 128,
        "علی\u200cرضا",
        "👩\u200d💻",
        "क\u094d\u200dष",
        DASHED + "0",
    ],
)
def test_any_visible_text_is_a_conn_id(text: str) -> None:
    """Of 1 to 128 characters, and it keeps its case; with the joiners that a script or an emoji needs."""
    assert normalize_conn_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 129,
        "a b",
        "a\nb",
        "a\n",
        "a\x00",
        "a\u200bb",
        "a\u00a0b",
        "\ud800",
        "a\u200db",
        "\u200d",
        "علی\u200c\u200c",
        "א\u202eב",
    ],
)
def test_invisible_characters_are_no_conn_id(text: str) -> None:
    """Empty, too long, white space, control characters, half a character, a joiner that joins nothing."""
    with pytest.raises(ValueError, match="not a conn_id"):
        normalize_conn_id(text)


@given(st.text(max_size=MAX_CONN_ID + 2))
def test_the_form_of_a_conn_id_is_final(text: str) -> None:
    """Normalizing twice changes nothing, and any text is a conn_id or refused."""
    try:
        form = normalize_conn_id(text)
    except ValueError:
        return
    assert normalize_conn_id(form) == form


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_context_has_the_form_of_version_00() -> None:
    assert is_traceparent(TRACEPARENT)
    assert is_traceparent(TRACEPARENT[:-2] + "00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        TRACEPARENT[:-1],
        TRACEPARENT + "0",
        TRACEPARENT + "-x",
        TRACEPARENT.upper(),
        TRACEPARENT + "\n",
        "cc" + TRACEPARENT[2:],
        "00-" + "0" * 32 + TRACEPARENT[35:],
        TRACEPARENT[:36] + "0" * 16 + "-01",
    ],
)
def test_another_form_is_no_trace_context(text: str) -> None:
    """Another version, an id of zeros only, upper case, too short or too long."""
    assert not is_traceparent(text)
