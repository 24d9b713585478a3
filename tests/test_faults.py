"""Faults by field: what a client is sent about them."""

from typing import Any

import pytest

from channelstream.faults import correction


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"_schema": ["Invalid input type."]}, "Correct the body and send it again: Invalid input type."),
        ({"a": ["One.", "Two."]}, "Correct a and send it again: One; `faults` has the others."),
        ({"a": {"b": {"value": {"c": ["One."]}}}}, "Correct a.b.c and send it again: One."),
        ({"a": {"b": {"value": ["One."]}}}, "Correct a.b and send it again: One."),
        ({"a": {"b": {"key": ["One."]}}}, "Correct a.b.key and send it again: One."),
        ({"a": {"value": {"value": ["One."]}}}, "Correct a.value and send it again: One."),
        ({"a": {"value": {"key": ["One."]}}}, "Correct a.value.key and send it again: One."),
        ({"a" * 5000: ["One."]}, f"Correct {'a' * 100} and send it again: One."),
    ],
)
def test_the_sentence_names_the_first_fault(faults: Any, error: str) -> None:
    """Shortened where a client's own text is long, and says whether there are more."""
    assert correction(faults) == f"Nothing was done. {error}"
