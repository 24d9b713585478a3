"""Ids: many spellings, one form."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.ids import MAX_CONN_ID, normalize_conn_id, normalize_uuid

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
def test_a_uuid_in_its_form_stays_as_it_is(value: uuid.UUID) -> None:
    """Whatever its version."""
    assert normalize_uuid(str(value)) == str(value)


@pytest.mark.parametrize(
    "text", ["", "x", DASHED + "0", DASHED[:-1], "{" + DASHED, DASHED + "}", DASHED[:-1] + "g"]
)
def test_a_malformed_uuid_is_refused(text: str) -> None:
    """Too long, too short, an open brace, a character that is no digit."""
    with pytest.raises(ValueError, match="not a UUID"):
        normalize_uuid(text)


@pytest.mark.parametrize("text", ["a", "My-Own_Id", "ł😀", "x" * MAX_CONN_ID])
def test_any_visible_text_is_a_conn_id(text: str) -> None:
    """Of 1 to 128 characters, and it keeps its case."""
    assert normalize_conn_id(text) == text


@pytest.mark.parametrize("text", ["", "x" * (MAX_CONN_ID + 1), "a b", "a\nb", "a\x00", "a\u00a0b", "\ud800"])
def test_invisible_characters_are_no_conn_id(text: str) -> None:
    """Empty, too long, white space, control characters, half a character."""
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
